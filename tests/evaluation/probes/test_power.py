from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.probes.paired_difference import accuracy_change
from mlm_recipes.evaluation.probes.power import power, smallest_change, texts_needed


def test_the_power_is_what_the_interval_does():
    """Of simulated pairs of classifiers that differ by four points and disagree on a tenth, so many are told apart."""
    texts, change, disagree, pairs = 500, 0.04, 0.1, 200
    generator, found = np.random.default_rng(0), 0
    worse, better = (disagree - change) / 2, (disagree + change) / 2
    for _ in range(pairs):
        kind = generator.choice(3, size=texts, p=[1 - disagree, worse, better])
        before, after = (kind != 2).astype(float), (kind != 1).astype(float)
        found += accuracy_change(before, after, np.arange(texts), np.zeros(texts), resamples=400)["verdict"] == "better"
    expected = power(texts, change, disagree)
    assert found / pairs == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / pairs))


def test_the_three_agree():
    texts = texts_needed(0.03, 0.12)
    assert power(texts, 0.03, 0.12) == pytest.approx(0.8, abs=0.002)
    assert smallest_change(texts, 0.12) == pytest.approx(0.03, abs=1e-4)


def test_limits():
    assert power(100, change=0.02, disagree=0.0) == pytest.approx(power(100, 0.02, 0.02))
    assert power(10**6, 0.02, 0.1) == pytest.approx(1.0)
    assert smallest_change(40, disagree=0.0) < smallest_change(40, disagree=0.2) <= 1.0
