"""What token frequencies alone would score: the level that a model must pass to have learned anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ..masking.batch_layout import labelled
from .metric import compute


def token_counts(train_ids: Iterable[Any], vocab_size: int) -> np.ndarray:
    """Count how often the training text has each token, int64, shape `(vocab_size,)`; `train_ids` come in any pieces.

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
    """Return what token frequencies alone would score on `labels`: the level that any real learning must pass.

    `counts` are those of the training text (`token_counts`), to which one is added for each token (Laplace); special
    tokens are left out, since no label is one. The accuracy is that of always saying the commonest token.

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
