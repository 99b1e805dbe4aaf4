"""How small a change a probe can show: the power of a paired comparison of two classifiers."""

from __future__ import annotations

from math import ceil, sqrt
from statistics import NormalDist

#: The standard normal distribution.
NORMAL = NormalDist()

#: The quantile of a two-sided test at 5%.
SURE = NORMAL.inv_cdf(0.975)

#: How often a change should be found.
POWER = 0.8


def power(texts: int, change: float, disagree: float) -> float:
    """Return the probability that a true change of the accuracy is measured: that its 95% interval excludes zero.

    Args:
        texts: how many texts are classified.
        change: of the accuracy, 0 to 1.
        disagree: the share of the texts on which only one of the two classifiers is right; at least `change`.

    The variance of the difference of two paired shares: Connor 1987, "Sample size for testing differences in
    proportions for the paired-sample design".

    >>> round(power(2_000, change=0.02, disagree=0.1), 2), round(power(300, change=0.02, disagree=0.1), 2)
    (0.81, 0.19)
    """
    disagree = max(disagree, change)
    spread = sqrt(max(1e-12, disagree - change**2))
    return NORMAL.cdf((change * sqrt(texts) - SURE * sqrt(disagree)) / spread)


def texts_needed(change: float, disagree: float) -> int:
    """Return how many texts it takes to measure a change in four of five probes; for the arguments, see `power`.

    >>> texts_needed(change=0.02, disagree=0.1)
    1960
    """
    disagree = max(disagree, change)
    sure = SURE * sqrt(disagree) + NORMAL.inv_cdf(POWER) * sqrt(disagree - change**2)
    return ceil((sure / change) ** 2)


def smallest_change(texts: int, disagree: float) -> float:
    """Return the smallest change that is measured in four of five probes, at most 1; for the arguments, see `power`.

    >>> round(smallest_change(2_000, disagree=0.1), 3)
    0.02
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(texts, middle, disagree) >= POWER else (middle, high)
    return high
