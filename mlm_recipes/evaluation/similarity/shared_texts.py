"""How much wider an interval is because pairs share texts, and so are not independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from ...masking.random_keys import Floats
from ..seeds_and_examples import student_t


def widening(influence: Floats, first: Sequence[str], second: Sequence[str]) -> float:
    """Return by how much an interval is too narrow that takes all pairs as independent: 1 or more.

    Args:
        influence: of each pair on the change of a measure, shape `(pairs,)`.
        first, second: the texts of each pair.

    The encoders' vectors of a text move all pairs that it is in. Pairs are correlated if they share a text, and are
    independent if they share none: the variance is the sum of the products of the influences of all pairs that share
    one (Fafchamps & Gubert 2007, "The formation of risk sharing networks"; Aronow, Samii & Assenova 2015,
    arXiv:1312.3398). Drawing connected groups of pairs would do the same where groups are many and small; but where
    texts are paired at random, nearly all pairs are one group. If few texts are in all pairs, that sum is too small,
    and uncertain, as with few clusters: the interval is that of Student's t for so many.

    >>> influence = np.array([1.0, 1.0, -1.0, -1.0] * 500)
    >>> apart = [str(number) for number in range(2000)]
    >>> widening(influence, apart, ["-" + text for text in apart])
    1.0
    >>> round(widening(influence, [str(number // 2) for number in range(2000)], apart[::-1]), 2)
    1.42
    """
    number = {text: index for index, text in enumerate(dict.fromkeys([*first, *second]))}
    if len(number) == 2 * len(influence):
        return 1.0
    ends = np.sort([[number[one], number[other]] for one, other in zip(first, second, strict=True)], axis=1)
    apart = ends[:, 0] != ends[:, 1]
    _, same = np.unique(ends, axis=0, return_inverse=True)
    same = same.ravel()

    def with_each(column: Floats) -> tuple[Floats, Floats]:
        """Return the sums of a column over the pairs with each text, and over those with both texts of each pair."""
        by_text: Floats = np.bincount(ends[:, 0], column, len(number)).astype(np.float64)
        by_text += np.bincount(ends[apart, 1], column[apart], len(number))
        by_both: Floats = np.bincount(same, column).astype(np.float64)
        return by_text, by_both[same]

    by_text, by_both = with_each(influence)
    # A pair is in the sums of two texts, and so is one with the same two.
    together = (by_text**2).sum() - (influence * by_both)[apart].sum()
    by_text, by_both = with_each(np.ones(len(influence)))
    sharing = by_text[ends[:, 0]] + np.where(apart, by_text[ends[:, 1]] - by_both, 0)  # with each pair, and itself
    clusters = max(2.0, len(influence) ** 2 / sharing.sum())
    few = student_t(clusters - 1) / student_t(inf) * sqrt(clusters / (clusters - 1))
    alone = (influence**2).sum()
    return max(1.0, few * sqrt(max(0.0, together / alone))) if alone > 0 else 1.0
