"""Makes a model accept padding-free batches, whose sequences are joined in one row, after testing that it can."""

from __future__ import annotations

from typing import Any

import torch

from ..masking.batch_layout import joined_row
from .evaluation_mode import evaluation_mode
from .joined_attention import NAME
from .positions import first_position, max_positions


def use_padding_free(model: Any) -> str | None:
    """Make a model accept padding-free batches, and padded ones as before; return why it cannot, or None if it can.

    A model that cannot is left unchanged. The model itself is tested, on a few short sequences, joined and padded.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> use_padding_free(model), model.config._attn_implementation
    (None, 'padding_free')
    """
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} has its own attention, which cannot be replaced"
    before = model.config._attn_implementation
    if before == NAME:
        return None
    if before != "sdpa":
        return f"attn_implementation is {before!r}, and only 'sdpa' can be replaced"
    model.set_attn_implementation(NAME)
    try:
        with evaluation_mode(model):
            why = _difference(model)
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError) as error:
        why = f"it fails on a joined row ({str(error).splitlines()[0]})"
    if why:
        model.set_attn_implementation(before)
    return why


@torch.no_grad()
def _difference(model: Any) -> str | None:
    """Return how joined sequences differ from padded ones, or None if they do not."""
    device, start = next(model.parameters()).device, first_position(model)
    window = getattr(model.config, "sliding_window", None) or 0
    lengths = [5, min(max_positions(model), 512, window + 9), 1]
    # From the end of the vocabulary downwards, since special tokens are at its beginning (at its end in ESM, which
    # looks at the masks of a whole row): a dependence on them must show.
    last, pad = model.get_input_embeddings().num_embeddings - 1, model.config.pad_token_id
    parts = [(last - torch.arange(length, device=device)) % (last + 1) for length in lengths]
    parts = [part.where(part != pad, last) for part in parts]
    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=pad or 0)
    real = torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]
    joined = joined_row(torch.tensor(lengths), start)
    joined = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in joined.items()}
    ids = torch.cat(parts).unsqueeze(0)
    for half, bound in ((False, 1e-4), (True, 1e-1)):
        if half and device.type != "cuda":  # bf16 has its own attention on CUDA
            continue
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            expected = model(input_ids=padded, attention_mask=real.long()).logits[real].float()
            found = model(input_ids=ids, **joined).logits[0].float()  # (tokens, vocab)
        difference = float((found - expected).abs().max())
        if not difference <= bound * max(1.0, float(expected.abs().max())):
            return f"its logits differ by {difference:.1e}"
    return None
