"""Lets rows of one length pass through a model together, for models whose result depends on padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

import torch

#: Attributes of what is divided, the encoder or the model: the multiple that lengths are counted in, and the mask of
#: the batch that is passing.
_MULTIPLE, _MASK = "_row_multiple", "_mask_of_batch"

#: An attribute of a model whose calls are watched for their mask.
_WATCHED = "_mask_is_watched"

#: Rows of a batch, the first column of their tokens, and the one after their last.
_Group = tuple[torch.Tensor, int, int]


def use_rows_of_one_length(model: Any, multiple_of: int = 1, with_head: bool = False) -> None:
    """Divide each padded batch inside the model: rows of one length pass through its encoder together, unpadded.

    Each row then has the result that it has alone, whoever calls the model: training, evaluation, your own loss. Where
    a row is padding, the result is 0.

    Args:
        model: any `AutoModelForMaskedLM`; its batches have an `attention_mask` of shape `(batch, seq_len)`, passed by
            name.
        multiple_of: count lengths in multiples of this, and keep so much of the padding. It is the collator's
            `pad_to_multiple_of`, or its `max_length` if it pads to that, so that a row's width depends on no other row.
        with_head: let them pass through the head together too, for a head that uses more than its own position.

    >>> from transformers import FNetConfig, FNetForMaskedLM
    >>> model = FNetForMaskedLM(FNetConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, intermediate_size=8))
    >>> use_rows_of_one_length(model.eval())
    >>> mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    >>> together = model(input_ids=torch.tensor([[7, 8, 3], [9, 7, 8]]), attention_mask=mask).logits
    >>> torch.allclose(together[:1, :2], model(input_ids=torch.tensor([[7, 8]])).logits, atol=1e-6)
    True
    """
    use_whole_batches(model)
    divided = model if with_head else model.base_model
    vars(divided)[_MULTIPLE] = multiple_of
    # A copy of the model binds the method to its own encoder. The mask is taken from the model's own call, since some
    # heads do not pass it on.
    divided.forward = MethodType(_forward, divided)
    if _WATCHED not in vars(model):
        vars(model)[_WATCHED] = True
        model.register_forward_pre_hook(_keep_mask, with_kwargs=True)


def use_whole_batches(model: Any) -> None:
    """Undo `use_rows_of_one_length`, if it was called."""
    divided = _divided(model)
    for name in (_MULTIPLE, "forward") if divided is not None else ():
        del vars(divided)[name]


def is_divided(model: Any) -> bool:
    """Tell whether `use_rows_of_one_length` was called."""
    return _divided(model) is not None


def row_multiple(model: Any) -> int:
    """Return the `multiple_of` that `use_rows_of_one_length` was called with, and 1 if it was not called."""
    divided = _divided(model)
    return 1 if divided is None else int(vars(divided)[_MULTIPLE])


def _divided(model: Any) -> Any:
    return next((each for each in (model, model.base_model) if _MULTIPLE in vars(each)), None)


def _keep_mask(model: Any, args: Any, inputs: dict[str, Any]) -> None:
    divided = _divided(model)
    if divided is not None:
        vars(divided)[_MASK] = inputs.get("attention_mask")


def _forward(encoder: Any, *args: Any, **inputs: Any) -> Any:
    whole, mask = type(encoder).forward, vars(encoder).pop(_MASK, None)
    if mask is None or mask.ndim != 2:
        ids = args[0] if args else inputs.get("input_ids")
        if isinstance(ids, torch.Tensor) and len(ids) > 1:
            raise ValueError(
                f"attention_mask: received none for {len(ids)} rows. Accepted: a mask of the shape (batch, seq_len), "
                "passed by name, since padding changes this model's results. Let the collator make one."
            )
        return whole(encoder, *args, **inputs)
    groups = list(_groups(mask.bool(), vars(encoder)[_MULTIPLE]))
    if len(groups) == 1 and groups[0][1:] == (0, mask.shape[1]):
        return whole(encoder, *args, **inputs)
    results = []
    for group in groups:
        some = [_part(each, group, mask.shape) for each in args]
        named = {name: _part(each, group, mask.shape) for name, each in inputs.items()}
        results.append(whole(encoder, *some, **named))
    return _joined(results, groups, mask.shape)


def _groups(mask: torch.Tensor, multiple: int) -> Iterator[_Group]:
    """Yield groups of rows of one length, the longest first. On a GPU this waits for the device."""
    width = mask.shape[1]
    places: dict[tuple[int, int], list[int]] = {}
    for row, real in enumerate(mask.cpu().numpy()):
        (tokens,) = real.nonzero()
        first, end = (int(tokens[0]), int(tokens[-1]) + 1) if len(tokens) else (0, 1)
        kept = min(-(-(end - first) // multiple) * multiple, width)
        first = max(0, end - kept) if end == width else min(first, width - kept)  # padding may be on either side
        places.setdefault((first, first + kept), []).append(row)
    for (first, end), rows in sorted(places.items(), key=lambda item: item[0][0] - item[0][1]):
        yield torch.tensor(rows, device=mask.device), first, end


def _part(value: Any, group: _Group, shape: torch.Size) -> Any:
    """Return a group's part of a model's argument: of its rows, its columns, or both, if it has them."""
    rows, first, end = group
    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        return value
    if value.shape[0] == shape[0]:
        value = value[rows]
    return value[:, first:end] if value.ndim > 1 and value.shape[1] == shape[1] else value


def _joined(results: list[Any], groups: list[_Group], shape: torch.Size) -> Any:
    """Return the results of all groups as the result of the batch; None for what is not of single rows."""
    kind = results[0]
    if isinstance(kind, torch.Tensor):
        return _placed(results, groups, shape)
    if isinstance(kind, Mapping):
        return type(kind)(**{name: _joined([each[name] for each in results], groups, shape) for name in kind})
    if isinstance(kind, tuple):
        return tuple(_joined(list(each), groups, shape) for each in zip(*results, strict=True))
    return None


def _placed(results: list[torch.Tensor], groups: list[_Group], shape: torch.Size) -> torch.Tensor | None:
    parts = list(zip(results, groups, strict=True))
    if all(result.shape[:2] == (len(rows), end - first) for result, (rows, first, end) in parts):
        whole = results[0].new_zeros(*shape, *results[0].shape[2:])
        for result, (rows, first, end) in parts:
            whole[rows, first:end] = result
        return whole
    if all(
        result.shape[:1] == (len(rows),) and result.shape[1:] == results[0].shape[1:] for result, (rows, *_) in parts
    ):
        return torch.cat(results)[torch.cat([rows for rows, *_ in groups]).argsort()]
    return None
