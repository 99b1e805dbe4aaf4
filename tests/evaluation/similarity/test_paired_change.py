from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.similarity import paired_change as module
from mlm_recipes.evaluation.similarity.pair_measures import average_precision, spearman
from mlm_recipes.evaluation.similarity.paired_change import mean_of, paired_change


def excluded(generator, simulations, pairs, resamples, measure):
    """The share of comparisons of two equally good encoders whose interval excludes zero."""
    found = 0
    for _ in range(simulations):
        truth = generator.normal(size=pairs)
        scores = (truth > 0.5).astype(float) if measure is average_precision else truth
        common = truth + generator.normal(size=pairs)
        before, after = (common + 0.5 * generator.normal(size=pairs) for _ in range(2))
        change = paired_change(measure(scores, before), measure(scores, after), pairs, resamples)
        found += change["verdict"] != "no measurable change"
    return found / simulations


@pytest.mark.parametrize("measure", [spearman, average_precision])
def test_equal_encoders_seldom_differ(measure):
    """Of 200 95% intervals, 2 to 20 exclude zero in 99.8% of all cases; the seed makes it the same each time."""
    assert 0.01 <= excluded(np.random.default_rng(0), 200, 100, 200, measure) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("measure", [spearman, average_precision])
def test_the_interval_is_a_95_percent_interval(measure):
    assert 0.03 <= excluded(np.random.default_rng(1), 1_000, 200, 500, measure) <= 0.07


def test_it_is_paired():
    """What both encoders have in common does not widen the interval."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=100)
    found = paired_change(mean_of(values), mean_of(values + 0.1 + 0.01 * generator.normal(size=100)), 100)
    assert found["verdict"] == "better"
    assert found["high"] - found["low"] < 0.01
    assert found["low"] < found["change"] < found["high"]


def test_the_resamples_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch):
    before, after = np.arange(30.0), np.arange(30.0)[::-1]
    whole = paired_change(mean_of(before), mean_of(after), 30)
    monkeypatch.setattr(module, "_BLOCK", 300)
    assert paired_change(mean_of(before), mean_of(after), 30) == whole


def test_worse_is_worse():
    values = np.arange(20.0)
    assert paired_change(mean_of(values), mean_of(values - 1), 20)["verdict"] == "worse"
    assert paired_change(mean_of(values), mean_of(values), 20)["verdict"] == "no measurable change"
