"""Checkpoint intervals, against a search and a simulation."""

from __future__ import annotations

import random
import statistics

import pytest

from mlm_recipes.recipes.cluster.failures import daly_interval, expected_time, young_interval


@pytest.mark.parametrize(("save", "failure"), [(5, 10_000), (60, 3600), (600, 7200), (300, 900)])
def test_dalys_interval_is_the_one_with_the_least_expected_time(save, failure):
    """Found by trying every interval; Young's is near where failures are rare."""
    work = 10 * failure

    def time(interval):
        return expected_time(work, interval, save, failure, restart=0)

    best = min(range(1, 5 * failure, max(1, failure // 500)), key=time)
    daly = daly_interval(save, failure)
    assert daly == pytest.approx(best, rel=0.05)
    assert time(daly) <= time(best) * 1.001
    assert time(daly) <= time(young_interval(save, failure)) * (1 + 1e-9)


def test_the_expected_time_is_that_of_simulated_runs():
    work, interval, save, failure, restart = 20_000.0, 1000.0, 50.0, 4000.0, 200.0
    draw = random.Random(0)

    def simulated():
        clock, done = 0.0, 0.0
        next_failure = draw.expovariate(1 / failure)
        while done < work:
            part = interval + save
            if next_failure >= part:
                clock, done, next_failure = clock + part, done + interval, next_failure - part
                continue
            clock, next_failure = clock + next_failure, draw.expovariate(1 / failure)
            while next_failure < restart:  # it fails again before it goes on
                clock, next_failure = clock + next_failure, draw.expovariate(1 / failure)
            clock, next_failure = clock + restart, next_failure - restart
        return clock

    runs = [simulated() for _ in range(2000)]
    error = statistics.stdev(runs) / len(runs) ** 0.5
    assert expected_time(work, interval, save, failure, restart) == pytest.approx(statistics.mean(runs), abs=4 * error)
