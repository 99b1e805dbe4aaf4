"""Checks that a model object predicts every token from the tokens on both sides of it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING

from ..sources.escaping import first_line
from .embeddings import embedding_rows
from .evaluation_mode import evaluation_mode

_ACCEPTED = "Accepted: a model with a masked-language-modelling head, such as BertForMaskedLM."
_STEP = "Load it with AutoModelForMaskedLM.from_pretrained, or pass its name."


def require_encoder(model: Any) -> None:
    """Raise ValueError for an object that neither is one of transformers' models nor behaves like one.

    >>> require_encoder(torch.nn.Linear(2, 2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: model: received Linear, which is not a model of transformers. Accepted: a model with a ...
    """
    # Wrappers, such as those of peft and torch.compile, pass these on to the model inside.
    parts = ("config", "base_model", "get_input_embeddings", "get_output_embeddings")
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in parts):
        raise ValueError(
            f"model: received {type(model).__name__}, which is not a model of transformers. {_ACCEPTED} {_STEP}"
        )


def require_masked_lm_head(model: Any) -> None:
    """Raise ValueError for a model that has no masked-language-modelling head, or that does not see later tokens.

    What transformers itself lists for this task needs no test. Any other model is asked, with rows of five tokens.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> require_masked_lm_head(BertForMaskedLM(BertConfig(vocab_size=50, **size)))
    """
    causal = getattr(model.config, "is_decoder", False)
    listed: Any = MODEL_FOR_MASKED_LM_MAPPING.get(type(model.config), ())
    if isinstance(model, listed) and not causal:
        return
    why = _what_is_wrong(model)
    if why:
        raise ValueError(f"model: {type(model).__name__} {why}. {_ACCEPTED} {_STEP}")


@torch.no_grad()
def _what_is_wrong(model: Any) -> str | None:
    """Return why a model cannot be trained on masked tokens, or None if it can, or if that cannot be found out."""
    rows, length = embedding_rows(model), 5
    device = next(model.parameters()).device
    base = (rows - 1 - torch.arange(length, device=device)) % rows
    ids = base.repeat(3, 1)  # the row, the same with another token at its beginning, and at its end
    ids[1, 0] = ids[2, -1] = base[1]
    try:
        with evaluation_mode(model):
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # of a kind that is not known here
        # A model for this task may have reasons of its own, such as weights that are spread over processes.
        known = type(model.config) in MODEL_FOR_MASKED_LM_MAPPING
        return None if known else f"cannot be called with rows of token ids ({first_line(error)})"
    logits = output.get("logits") if hasattr(output, "get") else None
    if logits is None:
        returned = f"returns {', '.join(output)}" if hasattr(output, "keys") else f"returns {type(output).__name__}"
        return f"{returned}, and no logits"
    if logits.ndim != 3 or tuple(logits.shape[:2]) != (3, length) or logits.shape[2] < rows // 2:
        return f"returns logits of the shape {tuple(logits.shape)} for {tuple(ids.shape)} tokens, not one for each id"
    middle = logits[:, length // 2].float()
    by_first, by_last = (float((middle[row] - middle[0]).abs().max()) for row in (1, 2))
    if by_last < 1e-2 * by_first:
        return "predicts a token from the tokens before it only, as a decoder"
    return None
