from __future__ import annotations

from math import comb

import numpy as np
import pytest

from mlm_recipes.evaluation.probes.folds import deal
from mlm_recipes.evaluation.probes.linear_probe import cross_validate
from mlm_recipes.evaluation.probes.paired_difference import accuracy_change, disagreement, macro_f1_change


def two_answers(texts=200, kinds=2, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(kinds, size=texts)
    one, other = (np.where(generator.random(texts) < share, labels, (labels + 1) % kinds) for share in (0.8, 0.86))
    return labels, one, other


def test_the_interval_is_that_of_the_normal_approximation():
    labels, one, other = two_answers(texts=2_000)
    before, after = (one == labels).astype(float), (other == labels).astype(float)
    found = accuracy_change(before, after, np.arange(2_000), np.zeros(2_000))
    difference = after - before
    half = 1.96 * difference.std() / np.sqrt(2_000)
    assert found["change"] == pytest.approx(difference.mean())
    assert found["low"] == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found["high"] == pytest.approx(difference.mean() + half, abs=0.1 * half)


def test_folds_that_differ_make_the_interval_wider():
    """As many texts got better as before, but all of them in one fold: one classifier was lucky."""
    before, after, texts = np.zeros(200), np.zeros(200), np.arange(200)
    after[texts % 10 == 0] = 1.0
    even = accuracy_change(before, after, texts, texts // 40)
    uneven = accuracy_change(before, after, texts, np.where(after == 1, 0, 1 + texts % 4))
    assert even["verdict"] == "better"
    assert uneven["verdict"] == "no measurable change"
    assert even["change"] == uneven["change"] == 0.1
    assert uneven["low"] < even["low"] < even["high"] < uneven["high"]


def test_copies_make_no_interval_narrower():
    labels, one, other = two_answers()
    before, after = (one == labels).astype(float), (other == labels).astype(float)
    groups = np.arange(200)
    found = accuracy_change(before, after, groups, groups % 5)
    copied = accuracy_change(
        *(np.tile(each, 4) for each in (before, after)), np.tile(groups, 4), np.tile(groups % 5, 4)
    )
    assert copied == found


def test_macro_f1_is_the_mean_of_each_labels_f1():
    labels = np.array([0, 0, 0, 1, 1, 2] * 10)
    one = np.array([0, 0, 1, 1, 1, 0] * 10)
    found = macro_f1_change(labels, one, labels, np.arange(60), np.arange(60) % 5)
    f1 = [2 * 2 / (3 + 3), 2 * 2 / (2 + 3), 0.0]
    assert found["before"] == pytest.approx(sum(f1) / 3)
    assert found["after"] == 1.0
    assert found["verdict"] == "better"


def test_equal_answers_have_not_changed():
    labels, one, _ = two_answers(kinds=3)
    right = (one == labels).astype(float)
    texts, fold = np.arange(200), np.arange(200) % 5
    for found in (accuracy_change(right, right, texts, fold), macro_f1_change(labels, one, one, texts, fold)):
        assert (found["low"], found["high"], found["verdict"]) == (0.0, 0.0, "no measurable change")


def test_a_worse_classifier_is_worse():
    labels, one, other = two_answers(texts=4_000)
    right = [(answered == labels).astype(float) for answered in (other, one)]
    found = accuracy_change(*right, np.arange(4_000), np.arange(4_000) % 5)
    assert found["verdict"] == "worse"


def test_mcnemars_test_is_the_binomial_one():
    before, after = np.array([1] * 3 + [0] * 12 + [1] * 50), np.array([0] * 3 + [1] * 12 + [1] * 50)
    found = disagreement(before, after)
    assert (found["only_before"], found["only_after"]) == (3, 12)
    assert found["p"] == pytest.approx(2 * sum(comb(15, n) for n in range(4)) / 2**15)
    assert disagreement(before, before)["p"] == 1.0
    many = disagreement(np.array([1] * 900 + [0] * 1_100), np.array([0] * 900 + [1] * 1_100))
    assert 0 < many["p"] < 1e-4


@pytest.mark.slow
def test_two_equal_encoders_seldom_look_different():
    """A short form of benchmarks/probe_interval.py: of 100 pairs, by chance, at most 13 (p = 0.0005 at 5%)."""
    different, groups = 0, np.arange(120)
    for pair in range(100):
        generator = np.random.default_rng(pair)
        labels = generator.integers(2, size=120)
        told, shared = 0.7 * labels[:, None], generator.normal(size=(120, 8))
        fold, right = deal(labels, groups, 5, pair), []
        for _ in range(2):
            features = (told + 0.8 * shared + 0.6 * generator.normal(size=(1, 120, 8))).astype(np.float32)
            right.append((cross_validate(features, labels, groups, fold).predicted == labels).astype(float))
        different += accuracy_change(*right, groups, fold, resamples=2_000)["verdict"] != "no measurable change"
    assert 1 <= different <= 13
