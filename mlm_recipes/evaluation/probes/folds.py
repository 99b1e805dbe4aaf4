"""Divides labelled texts into folds, and draws some of them to learn from; near duplicates stay together."""

from __future__ import annotations

import numpy as np

from ...masking.random_keys import Ints


def deal(labels: Ints, groups: Ints, folds: int, seed: int) -> Ints:
    """Return each text's fold, shape `(texts,)`: every fold has about as many texts of each label.

    Args:
        labels: each text's label, shape `(texts,)`.
        groups: texts of one group come into one fold, shape `(texts,)`; otherwise a text would be classified by what
            was learned from its near duplicate.
        folds: how many folds there are.
        seed: of the order in which the groups are dealt.

    >>> fold = deal(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 4, 5]), folds=2, seed=0)
    >>> bool(fold[0] == fold[3]), sorted(fold[4:].tolist())
    (True, [0, 1])
    """
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    by_label = shuffled[np.argsort(labels[first][shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.int64)
    fold[by_label] = np.arange(len(first)) % folds
    return fold[unit]


def draw(labels: Ints, size: int, seed: int) -> Ints:
    """Return the indices of `size` texts whose labels have about the same shares as those of all, shape `(size,)`.

    >>> labels = np.array([0] * 30 + [1] * 10)
    >>> np.bincount(labels[draw(labels, 8, seed=0)]).tolist()
    [6, 2]
    """
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        mine = generator.permutation(np.flatnonzero(labels == label))
        place[mine] = (np.arange(len(mine)) + generator.random()) / len(mine)  # evenly spaced: systematic sampling
    return np.sort(np.argsort(place, kind="stable")[:size])
