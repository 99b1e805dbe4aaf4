"""How many of a run's steps a share of them is, in whole steps."""

from __future__ import annotations

import math


def share_of_steps(share: float, steps: int) -> int:
    """Return a share of some steps, rounded up to a whole step.

    0.55 * 100 is 55.00000000000001 in floating point, so a product that differs from a whole number by no more than
    such an error is that number.

    >>> share_of_steps(0.55, 100), share_of_steps(0.55, 101)
    (55, 56)
    """
    exact = share * steps
    whole = round(exact)
    return whole if math.isclose(exact, whole, rel_tol=1e-12) else math.ceil(exact)
