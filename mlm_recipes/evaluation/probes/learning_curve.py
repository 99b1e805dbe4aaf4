"""The learning curve of a probe: how often the classifier is right, by the number of labels that it learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...masking.random_keys import Floats, Ints
from .folds import draw
from .linear_probe import learn_and_answer

#: The numbers of labels, and how many times each number of them is drawn in each fold: with few, it matters which.
SIZES = {16: 4, 64: 2, 256: 1}


@dataclass(frozen=True)
class Point:
    """With `labels` to learn from, how often each text was classified correctly, of `draws`: shape `(texts,)`."""

    labels: int
    draws: int
    correct: Floats


def learning_curve(features: Floats, labels: Ints, groups: Ints, fold: Ints, seed: int = 0) -> list[Point]:
    """Return a point for each of `SIZES` that is smaller than what all folds have to learn from.

    For the arguments, see `cross_validate`. The labels are drawn by `seed` alone, so that another encoder's features
    get the same ones; layers and strength are chosen on them, too.

    >>> labels = np.arange(60) % 2
    >>> features = (np.random.default_rng(0).normal(size=(1, 60, 4)) + 3 * labels[:, None])
    >>> [(point.labels, point.draws) for point in learning_curve(features, labels, np.arange(60), np.arange(60) // 12)]
    [(16, 4)]
    """
    folds = np.unique(fold).tolist()
    least = min(int((fold != number).sum()) for number in folds)
    points = []
    for size, draws in SIZES.items():
        if size >= least:
            continue
        correct = np.zeros(len(labels))
        for number in folds:
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            for again in range(draws):
                key = seed + 1_000 * size + 100 * number + again
                some = train[draw(labels[train], size, key)]
                found, _, _ = learn_and_answer(features, labels, groups, some, test, key)
                correct[test] += (found == labels[test]) / draws
        points.append(Point(size, draws, correct))
    return points
