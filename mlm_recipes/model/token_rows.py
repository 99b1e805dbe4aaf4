"""The weights that have a row for each token, and the rows of new tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .embeddings import embedding_rows


def token_rows(model: Any) -> list[torch.nn.Parameter]:
    """Return the weights with a row for each token: embeddings, the head's matrix if it is another one, and its bias.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> [tuple(weight.shape) for weight in token_rows(BertForMaskedLM(BertConfig(vocab_size=50, **size)))]
    [(50, 8), (50,)]
    """
    rows = embedding_rows(model)
    head = model.get_output_embeddings()
    matrices = [model.get_input_embeddings().weight, *([] if head is None else [head.weight])]
    inner = {id(weight) for weight in model.base_model.parameters()}
    biases = [weight for weight in model.parameters() if weight.shape == (rows,) and id(weight) not in inner]
    return [*{id(weight): weight for weight in [*matrices, *biases]}.values()]


@torch.no_grad()
def add_token_rows(model: Any, pieces: Mapping[int, Sequence[int]]) -> None:
    """Give a model rows for new tokens, each the mean of the rows of the pieces that the word had before.

    Args:
        model: with a masked-language-modelling head; it is enlarged if it has too few rows.
        pieces: for each new id, the ids of its pieces.

    The head's bias is the mean of the pieces' too, so a new word's logit is the mean of its pieces' logits. A mean of
    rows leaves the other probabilities nearly as they were, unlike random rows (Hewitt 2021, "Initializing New Word
    Embeddings for Pretrained Language Models"); the pieces' mean is the start in AVocaDo (Hong et al. 2021,
    https://arxiv.org/abs/2110.13434) and in Yao et al. 2021 (https://arxiv.org/abs/2106.13474).

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> add_token_rows(model, {50: [7, 9]})
    >>> weight = model.get_input_embeddings().weight
    >>> weight.shape[0], torch.equal(weight[50], (weight[7] + weight[9]) / 2)
    (51, True)
    """
    most = max(pieces, default=-1) + 1
    if most > embedding_rows(model):
        model.resize_token_embeddings(most, mean_resizing=False)
    for weight in token_rows(model):
        old = weight.detach().clone()
        for index, ids in pieces.items():
            weight[index] = old[list(ids)].mean(dim=0)
