"""Asks a model whether a row's result depends on the rest of its batch: on padding, or on the other rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..sources.escaping import first_line
from .attention_windows import longest_window
from .dropout import DROPOUTS, Dropout
from .exact_float32 import exact_float32
from .rounding_bounds import rounding_bound, summed_terms
from .sample_rows import REFUSALS, asked, pad_id, padded, sample_rows
from .sparse_prediction import only_at, unsupported

#: About as many positions of each row are compared. All of a long row's logits would not fit into memory.
_COMPARED = 32


@dataclass(frozen=True)
class Dependence:
    """What a row's result depends on, besides the row.

    Attributes:
        why: the reason, for a message.
        on_padding: whether it is only padding, so that rows of one length can pass through the model together.
    """

    why: str
    on_padding: bool


def dependence(
    model: Any, lengths: Sequence[int], tokenizer: Any = None, width: Callable[[int], int] = lambda length: length
) -> Dependence | None:
    """Return what a row's result depends on besides the row, or None if on nothing; the model itself is asked.

    The same rows are shown to it alone, and padded in one batch, in evaluation mode; and alone and together with others
    of their length in training mode, without dropout. The results may differ by float32's rounding.

    Args:
        model: any `AutoModelForMaskedLM`; it stays as it is.
        lengths: of the rows that it is shown, the longest first; at least two.
        tokenizer: the model's, for its special tokens.
        width: what a row of a length is padded to when it is alone.

    >>> from transformers import FNetConfig, FNetForMaskedLM
    >>> model = FNetForMaskedLM(FNetConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, intermediate_size=8))
    >>> found = dependence(model, [9, 4])
    >>> found.why[:30], found.on_padding
    ("padding changes a row's result", True)
    """
    rows = sample_rows(model, lengths, tokenizer)
    pad = pad_id(model, tokenizer)
    bound = rounding_bound(summed_terms(model, sum(lengths)))
    alike = [rows[-1], *sample_rows(model, [lengths[-1]] * 3, tokenizer)]  # of the shortest row's length

    sparse = unsupported(model, tokenizer=tokenizer) is None

    def results(some: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return _logits(model, some, padded(some, pad, max(width(len(row)) for row in some)), sparse)

    doing = "on a row"
    try:
        with asked(model), exact_float32():
            alone = [results([row])[0] for row in rows]
            again = _difference(results(rows[:1]), alone[:1])
            if not again <= bound:
                return Dependence(f"a row's result depends on the rows before it or on chance, by {again:.1e}", False)
            doing = "on a batch"
            among = _difference(results(alike)[:1], alone[-1:])
            doing = "in training"
            if among <= bound:
                with _training_without_dropout(model):
                    found = results(alike)[:1]
                with _training_without_dropout(model):
                    among = _difference(found, results(alike[:1]))
            if not among <= bound:
                return Dependence(f"a row's result depends on the other rows of its batch, by {among:.1e}", False)
            doing = "on a padded batch"
            together = _difference(results(rows), alone)
    except REFUSALS as error:
        return Dependence(f"it fails {doing} of {lengths[0]} or {lengths[-1]} tokens ({first_line(error)})", False)
    return None if together <= bound else Dependence(f"padding changes a row's result, by {together:.1e}", True)


def shown_lengths(model: Any, longest: Callable[[], int]) -> list[int]:
    """Return how long the rows must be that are shown to a model whose rows have up to `longest()` tokens.

    For transformers' own attention, rows that are longer than a sliding window are enough. A model with its own
    attention may divide rows into blocks, chunks or landmarks, so it is shown a row of the full length.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> shown_lengths(BertForMaskedLM(BertConfig(vocab_size=50, **size)), lambda: 512)
    [64, 33, 17, 5]
    """
    most = max(longest(), 2)
    if getattr(model, "_supports_attention_backend", False):
        most = min(most, 64 + longest_window(model.config))
    shorter = sorted({length for length in (most // 2 + 1, most // 4 + 1, 5, 1) if length < most}, reverse=True)
    return [most, *shorter[:3]]


def _difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference between two lists of logits, relative to the largest logit of the row."""
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-9)) for a, b in pairs)


def _logits(
    model: Any, rows: Sequence[torch.Tensor], batch: dict[str, torch.Tensor], sparse: bool
) -> list[torch.Tensor]:
    """Return each row's logits at some of its positions; `sparse` tells whether the head can compute only these."""
    wide = batch["input_ids"].shape[1]
    places = [torch.arange(0, len(row), max(1, len(row) // _COMPARED), device=row.device) for row in rows]
    positions = torch.cat([index * wide + place for index, place in enumerate(places)])
    with only_at(model, positions) if sparse else nullcontext():
        logits = model(**batch).logits
    if not sparse and logits.shape[:2] != batch["input_ids"].shape:
        raise ValueError(
            f"its logits have the shape {tuple(logits.shape)} for {tuple(batch['input_ids'].shape)} tokens"
        )
    logits = logits.flatten(0, 1) if sparse else logits.flatten(0, 1)[positions]
    return list(logits.float().split([len(place) for place in places]))


class _WithoutDropout(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is torch.nn.functional.scaled_dot_product_attention:
            kwargs = kwargs | {"dropout_p": 0.0}
        return func(*args, **kwargs)


@contextmanager
def _training_without_dropout(model: Any) -> Iterator[None]:
    """Put `model` in training mode, without dropout, and with the same random numbers each time (for LayerDrop)."""
    for module in model.modules():
        if isinstance(module, Dropout):  # ours does not call torch's function
            module.p = 0.0
    with torch.random.fork_rng(devices=[]), _WithoutDropout():
        torch.manual_seed(0)
        model.train()
        yield
        model.eval()
