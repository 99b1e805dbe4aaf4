"""One vector for each text: the mean of the encoder's last layer over the text's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...masking.random_keys import Floats
from ..probes.features import LAYERS


def text_vectors(
    features: Callable[[list[list[int]]], Floats], tokenizer: Any, texts: Sequence[str], max_length: int
) -> Floats:
    """Return the vectors of texts, shape `(texts, hidden)`, as sentence-transformers makes them of a bare encoder.

    A vector is the mean over all tokens, special ones included (mean pooling; Reimers and Gurevych 2019,
    https://arxiv.org/abs/1908.10084). A text of more than `max_length` tokens is cut off. Equal texts are computed
    once.

    Args:
        features: returns the features of rows of token ids, as `MLMTrainer.text_features`.

    >>> from mlm_recipes import load_tokenizer
    >>> counted = lambda rows: np.array([[[len(row)] for row in rows]] * len(LAYERS))
    >>> text_vectors(counted, load_tokenizer("mini"), ["to be", "or not to be", "to be"], 16).tolist()
    [[4.0], [6.0], [4.0]]
    """
    place = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    ids = tokenizer([*place], truncation=True, max_length=max_length, verbose=False)["input_ids"]
    found = features(ids)[LAYERS.index("last layer")].astype(np.float64)
    return found[[place[text] for text in texts]]


def unit_length(vectors: Floats) -> Floats:
    """Return vectors divided by their lengths, so that their products are cosines; a vector of zeros stays one.

    >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
