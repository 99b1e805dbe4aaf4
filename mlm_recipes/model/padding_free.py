"""Makes a model accept padding-free batches, whose sequences are joined in one row, after testing that it can."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ..masking.batch_layout import joined_row, without_mask
from ..sources.escaping import first_line
from . import flash_attention
from .attention_windows import longest_window
from .evaluation_mode import evaluation_mode
from .exact_float32 import exact_float32
from .joined_attention import NAME
from .positions import first_position, max_positions
from .sample_rows import REFUSALS, pad_id, padded, sample_rows

logger = logging.getLogger(__name__)


def use_padding_free(model: Any, half: torch.dtype | None = None, tokenizer: Any = None) -> str | None:
    """Make a model accept padding-free batches, and padded ones as before; return why it cannot, or None if it can.

    A model that cannot is left unchanged. The model itself is tested, on a few short sequences with masks, joined and
    padded, in float32 and, on CUDA, under autocast to `half`: bfloat16 or float16, if the run will compute in it. On
    CUDA it then uses flash attention in this precision if the kernel works there
    (`mlm_recipes.model.flash_attention`); otherwise the sequences are padded inside attention, and the reason is
    logged. The special tokens are those of `tokenizer`, or without it those of the model's config.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> use_padding_free(model), model.config._attn_implementation
    (None, 'padding_free')
    """
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} has its own attention, which cannot be replaced"
    before = model.config._attn_implementation
    if before == NAME and half is None:
        return None
    if before not in (NAME, "sdpa"):
        return f"attn_implementation is {before!r}, and only 'sdpa' can be replaced"
    model.set_attn_implementation(NAME)
    try:
        with evaluation_mode(model):
            why = _difference(model, half, tokenizer)
    except REFUSALS as error:
        why = f"it fails on a joined row ({first_line(error)})"
    if why:
        model.set_attn_implementation("sdpa")
    return why


@torch.no_grad()
def _difference(model: Any, half: torch.dtype | None, tokenizer: Any) -> str | None:
    """Return how joined sequences differ from padded ones, or None if they do not."""
    device, start = next(model.parameters()).device, first_position(model)
    lengths = [5, min(max_positions(model), 512, longest_window(model.config) + 9), 1]
    rows = sample_rows(model, lengths, tokenizer)
    padding = padded(rows, pad_id(model, tokenizer))
    real = padding["attention_mask"].bool()
    joined = joined_row(torch.tensor(lengths), start) | {"input_ids": torch.cat(rows).unsqueeze(0)}
    joined = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in joined.items()}

    def difference(bound: float) -> str | None:
        expected = model(**padding).logits[real].float()
        found = model(**without_mask(joined)).logits[0].float()  # (tokens, vocab)
        most = float((found - expected).abs().max())
        return None if most <= bound * float(expected.abs().max()) else f"its logits differ by {most:.1e}"

    with exact_float32():
        why = difference(1e-4)
    if why is not None or half is None or device.type != "cuda":
        return why
    before = set(flash_attention.ASKED)
    with torch.autocast(device.type, half):  # which has its own attention on CUDA
        why = difference(1e-1)
    refused = [flash_attention.ASKED[key] for key in flash_attention.ASKED if key not in before]
    if why is None and any(refused):
        logger.warning(
            "Flash attention is off: %s. Sequences are padded inside attention; the loss is the same, but a step takes "
            "longer.",
            "; ".join(filter(None, refused)),
        )
    return why
