from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.seeds_and_examples import crossed_change, macro_f1, macro_f1_change, pseudo_values


def simulated(generator, seeds, examples, of_seed, of_example):
    """Whether each example is classified correctly, by two encoders of which none is better."""
    easy = generator.normal(1.0, 1.5, size=(1, examples))
    for _ in range(2):
        odds = easy + generator.normal(0, of_example, size=(1, examples)) + generator.normal(0, of_seed, (seeds, 1))
        yield (generator.random((seeds, examples)) < 1 / (1 + np.exp(-odds))).astype(float)


def excluded(generator, simulations, *shape):
    found = [crossed_change(*simulated(generator, *shape))["verdict"] for _ in range(simulations)]
    return np.mean([verdict != "no measurable change" for verdict in found])


@pytest.mark.parametrize(("of_seed", "of_example"), [(0, 0), (0.4, 0), (0, 1.5), (0.2, 0.5)])
def test_equal_encoders_seldom_differ_whatever_varies(of_seed, of_example):
    """Of 200 95% intervals, 2 to 20 exclude zero in 99.8% of all cases; the seed makes it the same each time."""
    assert 0.01 <= excluded(np.random.default_rng(0), 200, 5, 100, of_seed, of_example) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("of_seed", "of_example"), [(0, 0), (0.4, 0), (0, 1.5), (0.2, 0.5)])
def test_the_interval_is_a_95_percent_interval(of_seed, of_example):
    assert 0.03 <= excluded(np.random.default_rng(1), 1_000, 5, 200, of_seed, of_example) <= 0.07


def test_seeds_that_disagree_make_the_interval_wide():
    """However many examples there are: five seeds that do not agree which encoder is better show nothing."""
    generator = np.random.default_rng(0)
    likely = 0.5 + np.array([0.3, 0.3, 0.1, -0.1, -0.1])[:, None]
    before, after = generator.random((5, 4000)) < 0.5, generator.random((5, 4000)) < likely
    found = crossed_change(before.astype(float), after.astype(float))
    assert found["change"] == pytest.approx(0.1, abs=0.02)
    # So many examples add little to what the five means say by themselves: Student's t with four degrees of freedom.
    by_seed = after.mean(axis=1) - before.mean(axis=1)
    assert found["change"] - found["low"] == pytest.approx(2.776 * by_seed.std(ddof=1) / np.sqrt(5), rel=0.05)
    assert found["verdict"] == "no measurable change"


def test_few_examples_make_the_interval_wide():
    """However many seeds there are: three of ten examples more may be these ten."""
    before, after = np.zeros((50, 10)), np.zeros((50, 10))
    after[:, :3] = 1
    before[:, 3] = 1
    found = crossed_change(before, after)
    assert found["change"] == pytest.approx(0.2)
    assert found["verdict"] == "no measurable change"


def test_results_that_are_all_equal_have_no_interval_to_speak_of():
    same = np.ones((5, 20))
    found = crossed_change(same, same)
    assert (found["low"], found["change"], found["high"]) == (0, 0, 0)
    assert found["verdict"] == "no measurable change"


@pytest.mark.parametrize("kinds", [2, 4])
def test_pseudo_values_are_what_leaving_each_example_out_gives(kinds):
    generator = np.random.default_rng(0)
    labels, answers = generator.integers(kinds, size=(2, 30))
    whole = macro_f1(labels, answers, kinds)
    expected = [
        30 * whole - 29 * macro_f1(np.delete(labels, number), np.delete(answers, number), kinds) for number in range(30)
    ]
    np.testing.assert_allclose(pseudo_values(labels, answers, kinds), expected)


def test_macro_f1_by_hand():
    labels, answers = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 1])
    # precision and recall: 2/3 and 2/3; 1/3 and 1/2; nothing.
    assert macro_f1(labels, answers, 3) == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)


def test_the_change_of_macro_f1_is_that_of_its_means():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=60)
    before, after = generator.integers(3, size=(2, 5, 60))
    after[:, :30] = labels[:30]
    found = macro_f1_change(labels, before, after, 3)
    assert found["after"] == pytest.approx(np.mean([macro_f1(labels, answers, 3) for answers in after]))
    assert found["low"] < found["change"] < found["high"]
    assert found["verdict"] == "better"
