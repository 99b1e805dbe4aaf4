"""Divides labelled texts into those that are trained on and those that are measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..masking.random_keys import Bools, Ints
from .text_cache import digests

#: The share of the texts that is measured.
HELD_OUT = 0.25


def hold_out(texts: Sequence[str], labels: Ints, seed: int = 0) -> Bools:
    """Return which texts are measured: a quarter of each label's, shape `(texts,)`, bool.

    Copies of a text, equal but for case and white space, are on the same side, whatever their labels.

    >>> texts = [f"text number {n}" for n in range(16)] + ["Text  number 3"]
    >>> held = hold_out(texts, np.array([0, 1] * 8 + [1]))
    >>> int(held[:16].sum()), bool(held[3] == held[16])
    (4, True)
    """
    _, first, group = np.unique(digests(texts), return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]  # each label's groups, shuffled
    held = np.zeros(len(first), dtype=np.bool_)
    held[order[:: round(1 / HELD_OUT)]] = True
    return held[group.ravel()]
