"""How often to save a checkpoint, given how long that takes and how often a node fails."""

from __future__ import annotations

import math


def young_interval(save: float, failure: float) -> float:
    """Return the seconds of work between two checkpoints that lose the least time.

    Young 1974, A first order approximation to the optimum checkpoint interval (doi:10.1145/361147.361115).

    Args:
        save: the seconds that training stands still for a checkpoint.
        failure: the mean seconds between two failures of the whole job.

    >>> young_interval(save=50, failure=10_000)
    1000.0
    """
    return math.sqrt(2 * save * failure)


def daly_interval(save: float, failure: float) -> float:
    """Return the same to a higher order, which also holds where failures are frequent.

    Daly 2006, A higher order estimate of the optimum checkpoint interval (doi:10.1016/j.future.2004.11.016).

    >>> round(daly_interval(save=50, failure=10_000))
    967
    >>> daly_interval(save=50, failure=20)
    20
    """
    if save >= 2 * failure:
        return failure
    ratio = save / (2 * failure)
    return young_interval(save, failure) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save


def expected_time(work: float, interval: float, save: float, failure: float, restart: float) -> float:
    """Return the expected seconds that `work` seconds of training take, on average (Daly 2006).

    Failures are independent of each other (exponential), may happen during a save or a restart, and cost the work since
    the last checkpoint.

    Args:
        work: the seconds of training alone.
        interval: the seconds of work between two checkpoints.
        save, failure: as for `young_interval`.
        restart: the seconds from a failure until training goes on.

    >>> round(expected_time(100_000, interval=1000, save=50, failure=10_000, restart=300))
    114082
    """
    interval = min(interval, work)
    lost = math.expm1(min((interval + save) / failure, 700)) * failure * math.exp(min(restart / failure, 700))
    return lost * work / interval
