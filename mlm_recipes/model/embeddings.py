"""How many tokens a model has embeddings for."""

from __future__ import annotations

from typing import Any

import torch


def embedding_rows(model: Any) -> int:
    """Return the number of a model's token embeddings, which is the size of its vocabulary.

    Most embeddings are `torch.nn.Embedding`; others, such as I-BERT's, are a table of weights as well.

    Raises: ValueError for a model that has no such table.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> embedding_rows(BertForMaskedLM(BertConfig(vocab_size=50, **size)))
    50
    """
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # transformers raises one or the other, depending on its version
        table = None
    if isinstance(table, torch.nn.Embedding):
        return table.num_embeddings
    # Not a table itself: Perceiver returns its latents, which are no tokens.
    weight: Any = getattr(table, "weight", None)
    if getattr(weight, "ndim", 0) != 2:
        raise ValueError(
            f"model: {type(model).__name__} has no table of token embeddings, one row for each token. Accepted: an "
            "encoder whose get_input_embeddings() returns one, such as BERT or ModernBERT. Choose such a model."
        )
    return int(weight.shape[0])
