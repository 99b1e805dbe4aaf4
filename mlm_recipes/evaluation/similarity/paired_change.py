"""The change of a measure between two encoders, with an interval from a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...masking.random_keys import Floats
from ...metrics_file import Measure
from ..verdict import verdict_of

#: The number of resamples.
RESAMPLES = 2_000

#: So many numbers are held at a time.
_BLOCK = 2**20


def paired_change(
    before: Callable[[Floats], Floats],
    after: Callable[[Floats], Floats],
    units: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    widening: float = 1.0,
) -> Measure:
    """Return a measure before and after, and its change with a 95% interval.

    Units (pairs, or queries) are drawn with replacement, before and after together (percentile bootstrap; Efron &
    Tibshirani 1993, chapter 13).

    Args:
        before, after: return the measure from how often each unit was drawn, shape `(resamples, units)`.
        units: the number of units.
        widening: by how much the interval is made wider, for units that are not independent of each other.

    >>> values = np.arange(20.0)
    >>> mean = lambda column: lambda times: times @ column / times.sum(axis=1)
    >>> found = paired_change(mean(values), mean(values + 1), units=20)
    >>> round(found["change"], 6), round(found["low"], 6), round(found["high"], 6), found["verdict"]
    (1.0, 1.0, 1.0, 'better')
    """
    whole = np.ones((1, units))
    old, new = float(before(whole)[0]), float(after(whole)[0])
    generator, changes = np.random.default_rng(seed), []
    size = max(1, _BLOCK // units)
    for first in range(0, resamples, size):
        drawn = generator.integers(units, size=(min(size, resamples - first), units))
        drawn += units * np.arange(len(drawn))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        changes.append(after(times) - before(times))
    ends = np.quantile(np.concatenate(changes), [0.025, 0.975])
    if widening > 1:
        ends = new - old + widening * (ends - (new - old))
    low, high = ends.tolist()
    return {
        "before": old,
        "after": new,
        "change": new - old,
        "low": low,
        "high": high,
        "verdict": verdict_of(low, high),
    }


def mean_of(values: Floats) -> Callable[[Floats], Floats]:
    """Return the mean of the drawn units' values, as `paired_change` wants it.

    >>> mean_of(np.array([1.0, 4.0]))(np.array([[2.0, 0.0], [1.0, 1.0]])).tolist()
    [1.0, 2.5]
    """
    return lambda times: times @ values / times.sum(axis=1)
