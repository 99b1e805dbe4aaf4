"""How much each pair influences a measure of pairs: its derivative by the weight of the pair, times their number."""

from __future__ import annotations

import numpy as np

from ...masking.random_keys import Floats


def spearman_influence(scores: Floats, similarities: Floats) -> Floats:
    """Return each pair's influence on `spearman`, shape `(pairs,)`; their sum is zero.

    A pair counts by its own ranks, and by moving the ranks of others: the empirical influence function (Hampel 1974,
    "The influence curve and its role in robust estimation"; Croux & Dehon 2010, of rank correlations).

    >>> spearman_influence(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2])).round(3).tolist()
    [1.5, -0.75, -0.75]
    """
    one, other = _centred(scores), _centred(similarities)
    both, spread, other_spread = np.mean(one * other), np.mean(one**2), np.mean(other**2)
    if spread * other_spread == 0:
        return np.zeros(len(scores))
    moved = one * other + _above(scores, other) + _above(similarities, one) - 3 * both
    parts = [
        (column**2 + 2 * _above(values, column)) / size - 3
        for values, column, size in ((scores, one, spread), (similarities, other, other_spread))
    ]
    scale = np.sqrt(spread * other_spread)
    return moved / scale - both / scale * (parts[0] + parts[1]) / 2


def average_precision_influence(matches: Floats, similarities: Floats) -> Floats:
    """Return each pair's influence on `average_precision`, shape `(pairs,)`; their sum is zero.

    >>> average_precision_influence(np.array([1.0, 0.0]), np.array([0.1, 0.2])).tolist()
    [0.5, -0.5]
    """
    share = matches.mean()
    if share == 0:
        return np.zeros(len(matches))
    read, found = (_not_below(similarities, column) for column in (np.ones(len(matches)), matches))
    precision = found / read
    mean = np.mean(matches * precision)
    # A pair is read before all that are no more similar, and found before them if it matches.
    gained = matches * _not_above(similarities, matches / read)
    lost = _not_above(similarities, matches * precision / read)
    return (matches * precision + gained - lost - mean - mean / share * (matches - share)) / share


def _centred(values: Floats) -> Floats:
    """Return the share of the values below each, equal ones by half, less its mean of a half."""
    below, equal = _sums(values, np.ones(len(values)))
    return below + equal / 2 - 0.5


def _above(values: Floats, column: Floats) -> Floats:
    """Return for each pair the mean of `column` where the value is above its own, and by half where it is equal."""
    below, equal = _sums(values, column)
    return column.mean() - below - equal / 2


def _not_below(values: Floats, column: Floats) -> Floats:
    return column.mean() - _sums(values, column)[0]


def _not_above(values: Floats, column: Floats) -> Floats:
    below, equal = _sums(values, column)
    return below + equal


def _sums(values: Floats, column: Floats) -> tuple[Floats, Floats]:
    """Return for each pair the sums of `column` where the value is below its own, and equal, over the number of all."""
    _, group = np.unique(values, return_inverse=True)
    equal = np.bincount(group, weights=column) / len(values)
    below = equal.cumsum() - equal
    return below[group], equal[group]
