"""Positions: how long a model's input may be, and the number of its first position."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel


def max_positions(model: PreTrainedModel) -> int:
    """Return the longest input, in tokens, that the model has positions for.

    RoBERTa-like models number their positions from `padding_idx + 1`, so 514 position embeddings allow 512 tokens.
    """
    table = _position_table(model)
    if table is not None:
        return table.num_embeddings - first_position(model)
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def first_position(model: PreTrainedModel) -> int:
    """Return the number of a sequence's first position: 0, or `padding_idx + 1` in RoBERTa-like models.

    >>> from transformers import BertConfig, BertModel
    >>> first_position(BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)))
    0
    """
    table = _position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _position_table(model: PreTrainedModel) -> torch.nn.Embedding | None:
    """Return the table of learned positions, if the model has one; rotary and relative positions have none."""
    tables = (getattr(module, "position_embeddings", None) for module in model.base_model.modules())
    return next((table for table in tables if isinstance(table, torch.nn.Embedding)), None)


def usable_length(max_length: int | None, model: PreTrainedModel, default: int = 512) -> int:
    """Return the length to cut at: `max_length`, or by default 512 or the model's number of positions, if less.

    Raises: ValueError if `max_length` exceeds the model's positions, or is too short for a word.
    """
    limit = max_positions(model)
    if max_length is None:
        return min(default, limit)
    if not 3 <= max_length <= limit:
        raise ValueError(
            f"max_length: received {max_length}. Accepted: 3 to {limit}, this model's positions. "
            f"Pass --max_length {min(limit, default)}, or leave it out."
        )
    return max_length
