"""Positions: how long a model's input may be, and the number of its first position. Both are asked of the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from ..sources.escaping import first_line
from .compiled_regions import find_regions
from .sample_rows import REFUSALS, asked, sample_rows

logger = logging.getLogger(__name__)

#: What a model without any limit takes.
_ANY = 2**31

#: The length of the row whose positions are watched.
_SHORT = 8


@dataclass
class _Answer:
    embeddings: int  # in all tables together, when the model was asked
    first: int
    limit: int
    said: bool = False


_ANSWERS: WeakKeyDictionary[PreTrainedModel, _Answer] = WeakKeyDictionary()


def max_positions(model: PreTrainedModel) -> int:
    """Return the longest input, in tokens, that the model has positions for.

    RoBERTa-like models number their positions from `padding_idx + 1` and Nystromformer from 2, so 514 position
    embeddings allow 512 tokens. The model itself shows this, on a short row. If it looks up no positions, the limit is
    `max_position_embeddings` of its config.
    """
    return _answer(model).limit


def first_position(model: PreTrainedModel) -> int:
    """Return the number of a sequence's first position: 0, or `padding_idx + 1` in RoBERTa-like models.

    >>> from transformers import BertConfig, BertModel
    >>> first_position(BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)))
    0
    """
    return _answer(model).first


def usable_length(max_length: int | None, model: PreTrainedModel, default: int = 512) -> int:
    """Return the length to cut at: `max_length`, or by default 512 or the longest row that the model takes, if less.

    The model is shown a row of this length. If the default is too long for it, one line says so.

    Raises: ValueError if the model does not take rows of `max_length` tokens, if they are too short for a word, or if
        it takes no row at all.
    """
    answer = _answer(model)
    length = min(default, answer.limit) if max_length is None else max_length
    if 3 <= length <= answer.limit and takes(model, length):
        limit = answer.limit
    else:  # now the limit itself matters, for the default or for the message
        limit = _longest(lambda length: takes(model, length), answer.limit)
        if limit == 0:
            raise ValueError(_takes_nothing(model))
        answer.limit = limit
    if max_length is None:
        if limit < default and not answer.said:
            answer.said = True
            logger.info("max_length is %d, since this model takes no longer rows.", limit)
        return min(default, limit)
    if not 3 <= max_length <= limit:
        raise ValueError(
            f"max_length: received {max_length}. Accepted: 3 to {limit}, this model's positions. "
            f"Pass --max_length {min(limit, default)}, or leave it out; --extend_positions gives a model more of them."
        )
    return max_length


def _takes_nothing(model: PreTrainedModel) -> str:
    (row,) = sample_rows(model, [_SHORT])
    why = "without a reason"
    try:
        with asked(model):
            model(input_ids=row.unsqueeze(0))
    except REFUSALS as error:
        why = f"({first_line(error)})"
    return (
        f"model: received {type(model).__name__}, which takes no row of tokens {why}. Accepted: a model that needs "
        "nothing but input_ids and attention_mask. Set what it lacks in its config.json, or choose another."
    )


def takes(model: PreTrainedModel, length: int) -> bool:
    """Tell whether a model takes a row of `length` tokens.

    The row passes through the embeddings and the first layer only, or only through the embeddings if transformers'
    own attention is used, which takes any length: a long row costs little. On a device other than the CPU, a position
    that is not there would end the process, so no position beyond the model's table may be asked for.
    """
    (row,) = sample_rows(model, [length])
    try:
        with asked(model), _stop_early(model):
            model(input_ids=row.unsqueeze(0))
    except _EnoughError:
        return True
    except REFUSALS:
        return False
    return True


def _longest(takes: Callable[[int], bool], limit: int) -> int:
    """Return the highest length up to `limit` that is taken, if all lower ones are; 0 if none is.

    >>> _longest(lambda length: length <= 510, 512)
    510
    """
    if takes(limit):
        return limit
    step = 1  # a model that starts counting at 2 takes just a little less than its table has
    while step < limit and not takes(limit - step):
        limit, step = limit - step, 2 * step
    low = max(limit - step, 0)
    while limit - low > 1:
        middle = (low + limit) // 2
        low, limit = (middle, limit) if takes(middle) else (low, middle)
    return low


class _EnoughError(Exception):
    """Ends a forward pass."""


@contextmanager
def _stop_early(model: Any) -> Iterator[None]:
    def stop(*args: Any) -> None:
        raise _EnoughError

    layers = find_regions(model.base_model, model.base_model)
    own = not getattr(model, "_supports_attention_backend", False)
    handles = [layer.register_forward_pre_hook(stop) for layer in layers[int(own) : int(own) + 1]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _LookUps(TorchFunctionMode):
    """Notes which tables are looked up at consecutive places: the first place, and the size of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.embedding:
            places = args[0] if args else kwargs["input"]
            table, places = args[1] if len(args) > 1 else kwargs["weight"], places.flatten()
            # Longformer has padded the row by then.
            if len(places) >= _SHORT and bool((places[:_SHORT].diff() == 1).all()):
                self.found.append((int(places[0]), len(table)))
        return func(*args, **kwargs)


def _answer(model: PreTrainedModel) -> _Answer:
    tables = sum(each.num_embeddings for each in model.modules() if isinstance(each, torch.nn.Embedding))
    answer = _ANSWERS.get(model)
    if answer is not None and answer.embeddings == tables:
        return answer
    look_ups = _LookUps()
    (row,) = sample_rows(model, [_SHORT])
    try:
        with asked(model), _stop_early(model), look_ups:
            model(input_ids=row.unsqueeze(0))
    except (_EnoughError, *REFUSALS):
        pass  # a model that does not take a short row has looked up its positions before
    config: Any = model.config
    limit = getattr(config, "max_position_embeddings", None)
    limits = [size - first for first, size in look_ups.found] or [int(limit or _ANY)]
    firsts = [first for first, _ in look_ups.found]
    answer = _ANSWERS[model] = _Answer(tables, min(firsts, default=0), min(limits))
    return answer
