"""Measures of how well similarities rank pairs of texts, each for many resamples of the pairs at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...masking.random_keys import Floats

#: Returns a measure from how often each pair was drawn, shape `(resamples, pairs)`: shape `(resamples,)`.
PairMeasure = Callable[[Floats], Floats]


def spearman(scores: Floats, similarities: Floats) -> PairMeasure:
    """Return Spearman's rank correlation of two columns of shape `(pairs,)`; equal values share their mean rank.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2]))(np.ones((1, 3))).tolist()
    [0.5]
    """
    columns = [_Groups(scores), _Groups(similarities)]

    def measure(times: Floats) -> Floats:
        one, other = (column.ranks(times) for column in columns)
        total = times.sum(axis=1, keepdims=True)
        one = one - (times * one).sum(axis=1, keepdims=True) / total
        other = other - (times * other).sum(axis=1, keepdims=True) / total
        both = (times * one * other).sum(axis=1)
        spread = np.sqrt((times * one**2).sum(axis=1) * (times * other**2).sum(axis=1))
        return np.divide(both, spread, out=np.zeros_like(both), where=spread > 0)

    return measure


def average_precision(matches: Floats, similarities: Floats) -> PairMeasure:
    """Return the average precision of finding the pairs that match (1, the others 0) by their similarity.

    That is the area under precision as a function of recall, without interpolation; equal similarities are taken
    together, as in scikit-learn.

    >>> found = average_precision(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.6]))
    >>> found(np.ones((1, 4))).round(4).tolist()
    [0.8333]
    """
    groups = _Groups(-similarities)

    def measure(times: Floats) -> Floats:
        found, read = groups.sums(times * matches), groups.sums(times)  # (resamples, groups), the most similar first
        before, all_read = found.cumsum(axis=1), read.cumsum(axis=1)
        precision = np.divide(before, all_read, out=np.zeros_like(before), where=all_read > 0)
        total = found.sum(axis=1)
        area = (found * precision).sum(axis=1)
        return np.divide(area, total, out=np.zeros_like(area), where=total > 0)

    return measure


class _Groups:
    """Values in rising order; equal ones are a group."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self.first = np.flatnonzero(new)
        self.group = np.empty(len(values), dtype=np.int64)  # of each pair
        self.group[self.order] = np.cumsum(new) - 1

    def sums(self, columns: Floats) -> Floats:
        """Return the sums over each group, shape `(resamples, groups)`."""
        return np.add.reduceat(columns[:, self.order], self.first, axis=1)

    def ranks(self, times: Floats) -> Floats:
        """Return the mean rank of each pair among those drawn, from 1, shape `(resamples, pairs)`."""
        drawn = self.sums(times)
        return (drawn.cumsum(axis=1) - (drawn - 1) / 2)[:, self.group]
