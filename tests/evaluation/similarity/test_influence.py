from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.similarity.influence import average_precision_influence, spearman_influence
from mlm_recipes.evaluation.similarity.pair_measures import average_precision, spearman

BOTH = [(spearman, spearman_influence), (average_precision, average_precision_influence)]


@pytest.mark.parametrize(("measure", "influence"), BOTH)
@pytest.mark.parametrize("digits", [1, 8], ids=["with equal values", "all different"])
def test_it_is_the_derivative_by_the_weight_of_a_pair(measure, influence, digits):
    generator = np.random.default_rng(0)
    levels = 2 if measure is average_precision else 5
    scores, found = generator.integers(levels, size=40).astype(float), generator.normal(size=40).round(digits)
    step, whole = 1e-5 * np.eye(40), np.ones((1, 40))
    slope = (measure(scores, found)(whole + step) - measure(scores, found)(whole - step)) / 2e-5
    assert influence(scores, found) == pytest.approx(40 * slope, abs=1e-6)
    assert influence(scores, found).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("measure", "influence"), BOTH)
def test_it_predicts_the_spread_of_the_bootstrap(measure, influence):
    generator = np.random.default_rng(1)
    scores = (generator.normal(size=400) > 0.5).astype(float)
    found = scores + generator.normal(size=400)
    times = generator.multinomial(400, np.full(400, 1 / 400), size=1000).astype(float)
    expected = influence(scores, found).std() / np.sqrt(400)
    assert measure(scores, found)(times).std() == pytest.approx(expected, rel=0.1)


def test_what_ranks_nothing_has_no_influence():
    assert spearman_influence(np.arange(4.0), np.ones(4)).tolist() == [0] * 4
    assert average_precision_influence(np.zeros(4), np.arange(4.0)).tolist() == [0] * 4
