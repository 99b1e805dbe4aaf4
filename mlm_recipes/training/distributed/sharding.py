"""FSDP2: each process holds a share of every weight, and a layer is joined only while it computes.

Zhao et al. 2023, PyTorch FSDP (https://arxiv.org/abs/2304.11277), which follows ZeRO-3 (Rajbhandari et al. 2020,
https://arxiv.org/abs/1910.02054), in the form of torch's `fully_shard`.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from ...model.layers import repeated_layers

logger = logging.getLogger(__name__)


def is_sharded(model: torch.nn.Module) -> bool:
    """Tell whether `shard` was called for a model.

    >>> is_sharded(torch.nn.Linear(1, 1))
    False
    """
    return isinstance(model, FSDPModule)


def separate_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the layers that can be sharded one by one: those that share no weight with another part of the model.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> [type(layer).__name__ for layer in separate_layers(BertForMaskedLM(BertConfig(vocab_size=50, **size)))]
    ['BertLayer', 'BertLayer']
    """
    uses = _uses(model)
    return [
        layer
        for layer in dict.fromkeys(repeated_layers(model))
        if all(uses[weight] == times for weight, times in _uses(layer).items())
    ]


def _uses(module: torch.nn.Module) -> Counter[int]:
    """Return under how many names a module has each of its weights."""
    return Counter(id(weight) for _, weight in module.named_parameters(remove_duplicate=False))


def shard(model: Any, device: torch.device, reshard_after_forward: bool) -> None:
    """Leave each process its share of a model's weights: of each layer, and then of all the rest together.

    The rest are the embeddings and the head, which often share a weight. accelerate 1.15 shards them separately, and
    torch refuses that for BERT and ModernBERT; it leaves a model that is sharded already as it is.

    Weights are joined in their own dtype, float32, and autocast rounds them as in a run without FSDP, so that the
    result is the same.

    Args:
        model: on its device, with any weights: those of the main process count, as with DistributedDataParallel.
        device: the device.
        reshard_after_forward: whether a layer is divided again between its forward and its backward pass, which takes
            less memory and one more exchange of its weights.
    """
    for tensor in dict.fromkeys([*model.parameters(), *model.buffers()]):
        dist.broadcast(tensor.data, src=0)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    layers = separate_layers(model)
    if not layers:
        logger.warning(
            "FSDP: %s has no layers with weights of their own, so each step joins the whole model in each process.",
            type(model).__name__,
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def ignore_view_warning() -> None:
    """Silence what torch 2.13 warns of at a sharded model's first pass, for a loss that changes no output in place.

    Every linear layer's output is a view, so that it would be said in every run.

    >>> ignore_view_warning()
    """
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)


@contextmanager
def whole(model: torch.nn.Module, reshard_after_forward: bool) -> Iterator[None]:
    """Within `with`, let each process have all weights of a sharded model, for passes without gradients.

    No pass then waits for other processes, so that each may make as many as it likes. All processes must enter and
    leave together. `reshard_after_forward` is what `shard` was called with.
    """
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(reshard_after_forward and unit is not model, recurse=False)
            unit.reshard()
