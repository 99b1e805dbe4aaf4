"""Scores a prediction from token frequencies only: a model that scores no better has learned nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ..masking.batch_layout import labelled
from .metric import compute


def token_counts(train_ids: Iterable[Any], vocab_size: int) -> np.ndarray:
    """Count each token of the training text, int64, shape `(vocab_size,)`; `train_ids` may be in pieces of any size.

    >>> token_counts([[5, 5], [6]], vocab_size=8).tolist()
    [0, 0, 0, 0, 0, 2, 1, 0]
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    for ids in train_ids:
        counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=vocab_size)
    return counts


def word_frequency_metrics(
    counts: np.ndarray, labels: Iterable[torch.Tensor], special_ids: Iterable[int]
) -> dict[str, float]:
    """Return the metrics on `labels` of a prediction from token frequencies only, as a baseline.

    `counts` are the training text's (`token_counts`), and one is added to each (Laplace); special tokens are excluded,
    since they are never labels. The accuracy is that of always predicting the most frequent token.

    >>> counts = token_counts([[5, 5, 6]], vocab_size=8)
    >>> word_frequency_metrics(counts, [torch.tensor([5, -100])], special_ids=[0])["accuracy"]
    1.0
    """
    counts = counts + 1
    counts[list(special_ids)] = 0
    with np.errstate(divide="ignore"):  # log(0): a special token, never a label
        surprise = -np.log(counts / counts.sum())
    seen = np.concatenate([batch[labelled(batch)].numpy() for batch in labels])
    return compute(np.stack([surprise[seen], seen == counts.argmax(), np.ones_like(seen)], axis=1).astype(np.float64))
