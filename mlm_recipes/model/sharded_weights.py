"""A model's weights, and tensors like them, that several processes hold in shares: joined, divided, copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard, distribute_tensor


def joined(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a tensor that is held in shares, and any other as it is.

    All processes that have a share must call this, in the same order.

    >>> joined(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return this process's share of `whole`, if `like` is held in shares; otherwise `whole`, on the device of `like`.

    Nothing is communicated: each process has `whole`, and takes its part.

    >>> divided_like(torch.ones(2), like=torch.zeros(2)).tolist()
    [1.0, 1.0]
    """
    whole = whole.to(like.device)
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def own_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor, which is in the same memory, or the tensor if it is not shared.

    >>> tensor = torch.ones(2)
    >>> own_rows(tensor) is tensor
    True
    """
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def on_whole(
    function: Callable[[torch.Tensor], torch.Tensor], shares: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """Return this process's share of what `function` makes of whole tensors.

    Args:
        function: keeps the shape of its argument.
        shares: this process's share of one tensor like `like`, or of several, stacked along a first dimension more.
        like: a tensor that is shared in the same way, or not shared at all: then this is `function(shares)`.

    All processes must call this, in the same order. Each computes `function`, and nothing but its argument is sent.

    >>> on_whole(torch.neg, torch.ones(2), like=torch.ones(2)).tolist()
    [-1.0, -1.0]
    """
    if not isinstance(like, DTensor):
        return function(shares)
    more = shares.ndim - like.ndim
    placements = [Shard(each.dim + more) if isinstance(each, Shard) else each for each in like.placements]
    shape = torch.Size([*shares.shape[:more], *like.shape])
    stride = torch.empty(shape, device="meta").stride()
    divided = DTensor.from_local(shares, like.device_mesh, placements, run_check=False, shape=shape, stride=stride)
    found = function(divided.full_tensor())
    return distribute_tensor(found, like.device_mesh, placements, src_data_rank=None).to_local()


def weights_of(model: torch.nn.Module, keep: bool) -> dict[str, torch.Tensor]:
    """Return the weights and buffers of a model that a checkpoint holds, each whole and on the CPU, by their names.

    All processes that have a share must call this; the result is empty where `keep` is False. Only one weight at a time
    is whole on the device. Names of one tied weight share their memory, as `save_pretrained` expects.

    >>> tied = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    >>> tied[1].weight = tied[0].weight
    >>> found = weights_of(tied, keep=True)
    >>> found["0.weight"].data_ptr() == found["1.weight"].data_ptr()
    True
    """
    found: dict[int, torch.Tensor] = {}
    named: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():  # without it, each name would get a copy of its own
        if id(tensor) not in found:
            whole = joined(tensor.detach())
            found[id(tensor)] = whole.cpu() if keep else torch.empty(0)
        named[name] = found[id(tensor)]
    return named if keep else {}


@torch.no_grad()
def copy_weights(model: torch.nn.Module, weights: Iterable[tuple[str, torch.Tensor]]) -> tuple[list[str], list[str]]:
    """Copy whole tensors into a model's weights and buffers, also into those that are held in shares.

    Args:
        model: the model; each process calls this for its own.
        weights: names and tensors; at most one tensor at a time is kept.

    Returns: the names that the model has and `weights` lack, and those that the model does not know, both sorted. A
        tied weight is not missing if another of its names was given.

    Raises: ValueError for a tensor of another shape.

    >>> layer = torch.nn.Linear(1, 1)
    >>> copy_weights(layer, [("weight", torch.tensor([[5.0]])), ("other", torch.ones(1))])
    (['bias'], ['other'])
    >>> layer.weight.item()
    5.0
    """
    own: Mapping[str, Any] = model.state_dict(keep_vars=True)
    unknown: list[str] = []
    filled: set[int] = set()
    for name, whole in weights:
        if name not in own:
            unknown.append(name)
            continue
        target = own[name]
        if target.shape != whole.shape:
            raise ValueError(
                f"weights: received {name} of the shape {tuple(whole.shape)}. Accepted: {tuple(target.shape)}, as in "
                "this model. Load the model that the weights belong to."
            )
        target.copy_(divided_like(whole.to(target.dtype), target))
        filled.add(id(target))
    missing = sorted(name for name, tensor in own.items() if id(tensor) not in filled)
    return missing, sorted(unknown)
