"""Runs the vocabulary head on masked positions only: the same loss for a seventh of the head's work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..sources.escaping import first_line
from .exact_float32 import exact_float32
from .sample_rows import REFUSALS, asked, pad_id, padded, sample_rows

#: How much logits may differ, relative to the largest: a head that mixes positions changes them by far more.
_BOUND = 1e-4


@contextmanager
def only_at(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """Run the head of `model`, any `AutoModelForMaskedLM`, only at some positions.

    Args:
        positions: int64, shape `(positions,)`: indices of the flattened `(batch, seq_len)`, such as those of
            `mlm_recipes.masking.batch_plan.masked_positions(labels)`.

    Within `with`, the model's logits have the shape `(1, positions, vocab)`, in the order of the positions. The
    encoder is unchanged; positions are selected from its output before the head, which processes each position
    separately (`sparse_prediction` in ModernBERT, https://arxiv.org/abs/2412.13663).

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> with only_at(model, torch.tensor([1, 3])):
    ...     model(input_ids=torch.tensor([[2, 7, 9, 3]])).logits.shape
    torch.Size([1, 2, 50])
    """

    def thin_out(module: Any, args: Any, output: Any) -> Any:
        rows = output[0].flatten(0, 1).index_select(0, positions).unsqueeze(0)  # (1, positions, hidden)
        if isinstance(output, tuple):
            return (rows, *output[1:])
        output["last_hidden_state"] = rows
        return output

    handle = model.base_model.register_forward_hook(thin_out)
    try:
        yield
    finally:
        handle.remove()


def unsupported(model: Any, tokenizer: Any = None) -> str | None:
    """Return why `only_at` cannot be used with `model`, or None if it can; the model itself is tested, on two rows.

    The rows have masks and padding; the special tokens are those of `tokenizer`, or without it those of the model's
    config. The model stays as it is.
    """
    if model.base_model is model:
        return "it has no encoder separate from its head"
    rows = sample_rows(model, [6, 3], tokenizer)
    batch = padded(rows, pad_id(model, tokenizer))
    positions = torch.tensor([1, 3, 7], device=rows[0].device)  # of both rows
    try:
        with asked(model), exact_float32():
            dense = model(**batch).logits.flatten(0, 1)[positions]
            with only_at(model, positions):
                sparse = model(**batch).logits
    except REFUSALS as error:
        return f"its head fails on selected positions ({first_line(error)})"
    if sparse.shape != (1, *dense.shape):
        return f"its head returns logits of the shape {tuple(sparse.shape)}"
    difference = float((sparse[0] - dense).abs().max())
    same = difference <= _BOUND * float(dense.abs().max())
    return None if same else f"its logits differ by {difference:.1e}"
