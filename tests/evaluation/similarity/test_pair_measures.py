from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.similarity.pair_measures import average_precision, spearman

GENERATOR = np.random.default_rng(0)


def ranks(values):
    """Each value's mean rank, by counting."""
    return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


def precision_at_each_match(matches, similarities):
    """Average precision by its definition, of distinct similarities."""
    ordered = matches[np.argsort(-similarities)]
    found = np.flatnonzero(ordered)
    return np.mean([ordered[: place + 1].mean() for place in found])


@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_is_the_correlation_of_mean_ranks(levels):
    scores, found = GENERATOR.integers(levels, size=60).astype(float), GENERATOR.normal(size=60).round(1)
    expected = np.corrcoef(ranks(scores), ranks(found))[0, 1]
    assert spearman(scores, found)(np.ones((1, 60)))[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", [spearman, average_precision])
def test_a_pair_drawn_twice_counts_as_two_pairs(measure):
    scores, found = GENERATOR.integers(2, size=40).astype(float), GENERATOR.normal(size=40).round(1)
    times = GENERATOR.integers(4, size=(3, 40)).astype(float)
    for number, drawn in enumerate(times.astype(int)):
        repeated = measure(np.repeat(scores, drawn), np.repeat(found, drawn))(np.ones((1, drawn.sum())))[0]
        assert measure(scores, found)(times)[number] == pytest.approx(repeated, abs=1e-12)


def test_average_precision_by_its_definition():
    matches, found = GENERATOR.integers(2, size=50).astype(float), GENERATOR.permutation(50).astype(float)
    got = average_precision(matches, found)(np.ones((1, 50)))[0]
    assert got == pytest.approx(precision_at_each_match(matches, found), abs=1e-12)


def test_equal_similarities_say_nothing():
    scores = np.array([0.0, 1, 0, 1, 1, 0, 0, 0])
    assert average_precision(scores, np.zeros(8))(np.ones((1, 8)))[0] == pytest.approx(3 / 8)
    assert spearman(scores, np.zeros(8))(np.ones((1, 8)))[0] == 0


def test_a_resample_without_any_match_is_no_error():
    times = np.array([[3.0, 0, 1, 0]])
    assert average_precision(np.array([0.0, 1, 0, 1]), np.arange(4.0))(times).tolist() == [0]
    assert spearman(np.array([0.0, 1, 0, 1]), np.arange(4.0))(times).tolist() == [0]
