"""Asks a model whether it computes under autocast; not every model of transformers does."""

from __future__ import annotations

from typing import Any

import torch

from ..sources.escaping import first_line
from .sample_rows import REFUSALS, asked, padded, sample_rows, special_ids


def why_not_half(model: Any, half: torch.dtype, tokenizer: Any = None) -> str | None:
    """Return why a model fails under autocast to `half` on its device, or None if it does not.

    It is shown two short rows; a model that takes none so short fails without autocast too, which is not the reason.

    >>> from transformers import DebertaConfig, DebertaForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = DebertaForMaskedLM(DebertaConfig(vocab_size=50, relative_attention=True, pos_att_type=["p2c"], **size))
    >>> why_not_half(model, torch.bfloat16)
    'value cannot be converted to type c10::BFloat16 without overflow'
    """
    rows = sample_rows(model, [5, 3], tokenizer)
    batch = padded(rows, special_ids(model, tokenizer).get("pad", 0))
    why = None
    with asked(model):
        try:
            with torch.autocast(rows[0].device.type, half):
                model(**batch)
        except REFUSALS as error:
            why = first_line(error)
        try:
            if why is not None:
                model(**batch)
        except REFUSALS:
            why = None
    return why
