"""How small a change pairs or queries can show, before there is a run."""

from __future__ import annotations

from math import ceil, sqrt

from ...inspection_file import ExpectedInterval
from ..probes.power import NORMAL, POWER, SURE

#: The change that is asked about.
SMALL_CHANGE = 0.02

#: The standard deviation, over pairs, of their influence on the change of Spearman's correlation, and over queries of
#: the change of nDCG@10. After short runs of the built-in model it was 0.2 to 0.4, and 0.1 where few were found.
USUAL_SPREAD_OF_PAIRS, USUAL_SPREAD_OF_QUERIES = 0.3, 0.15


def expected_interval(units: int, spread: float) -> ExpectedInterval:
    """Return what so many pairs or queries, independent of each other, are likely to show.

    Args:
        units: the number of pairs or queries.
        spread: the standard deviation of what each contributes to the change.

    >>> found = expected_interval(900, spread=0.3)
    >>> round(found["half_width"], 4), round(found["power"], 2), found["needed"]
    (0.0196, 0.52, 1766)
    """
    error = spread / sqrt(units)
    needed = ((SURE + NORMAL.inv_cdf(POWER)) * spread / SMALL_CHANGE) ** 2
    return {
        "spread": spread,
        "half_width": SURE * error,
        "power": NORMAL.cdf(SMALL_CHANGE / error - SURE),
        "needed": ceil(needed),
    }
