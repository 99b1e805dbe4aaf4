from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.data.text_pairs import TextPairs
from mlm_recipes.evaluation.similarity import similarity_probes
from mlm_recipes.evaluation.similarity.shared_texts import widening
from mlm_recipes.evaluation.similarity.similarity_probes import _pair_changes


def at_random(generator, pairs):
    """Texts that are in ten pairs each, with others at random: all pairs are one connected group."""
    texts = pairs // 5
    first = generator.integers(texts, size=pairs)
    return first, (first + 1 + generator.integers(texts - 1, size=pairs)) % texts


def queries(generator, pairs):
    """Queries with ten texts each, which are in no other pair."""
    return np.repeat(np.arange(pairs // 10), 10), pairs + np.arange(pairs)


def apart(generator, pairs):
    return np.arange(pairs), pairs + np.arange(pairs)


def excluded(generator, simulations, pairs, design, kind):
    """The share of comparisons of two equally good encoders whose interval excludes zero.

    An encoder moves the vector of each text, and makes some texts more similar to all others.
    """
    found = 0
    for _ in range(simulations):
        first, second = design(generator, pairs)
        texts = int(max(first.max(), second.max())) + 1
        truth = generator.normal(size=(texts, 4))

        def similar(vectors, first=first, second=second):
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            return (unit[first] * unit[second]).sum(axis=1)

        scores = similar(truth) + 0.2 * generator.normal(size=pairs)
        scores = (scores > np.quantile(scores, 0.7)).astype(float) if kind == "match" else scores
        state = []
        for _ in range(2):
            popular = 0.3 * generator.normal(size=texts)
            moved = truth + 0.8 * generator.normal(size=truth.shape)
            state.append(similar(moved) + popular[first] + popular[second])
        names = [[str(text) for text in side] for side in (first, second)]
        changes = _pair_changes(TextPairs("pairs", *names, scores.tolist(), kind), *state)
        measure = changes["average_precision" if kind == "match" else "spearman"]
        found += measure["verdict"] != "no measurable change"
    return found / simulations


@pytest.fixture
def few_resamples(monkeypatch):
    change = similarity_probes.paired_change
    monkeypatch.setattr(similarity_probes, "paired_change", lambda *args, **how: change(*args, resamples=200, **how))


@pytest.mark.slow
def test_equal_encoders_seldom_differ_on_pairs_that_share_texts(few_resamples):
    """Of 100 95% intervals, 11 or fewer exclude zero in 99.6% of all cases. Without the widening, 15 of these do."""
    assert excluded(np.random.default_rng(0), 100, 200, at_random, "score") <= 0.11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "kind"),
    [(apart, "score"), (at_random, "score"), (at_random, "match"), (queries, "score"), (queries, "match")],
)
def test_the_interval_is_a_95_percent_interval_when_texts_are_shared(few_resamples, design, kind):
    """Average precision without shared texts is left out: nothing is widened there, and 200 resamples are too few."""
    assert 0.03 <= excluded(np.random.default_rng(1), 1_000, 300, design, kind) <= 0.07


def test_pairs_that_share_no_text_change_nothing():
    influence = np.random.default_rng(0).normal(size=50)
    names = [str(number) for number in range(100)]
    assert widening(influence, names[:50], names[50:]) == 1.0


def by_definition(influence, first, second):
    """The sum over all pairs of pairs that share a text."""
    shared = [
        [bool({one, other} & {one_too, other_too}) for one_too, other_too in zip(first, second, strict=True)]
        for one, other in zip(first, second, strict=True)
    ]
    return influence @ np.array(shared) @ influence / (influence @ influence)


def test_it_is_the_sum_over_all_pairs_that_share_a_text(monkeypatch):
    monkeypatch.setattr("mlm_recipes.evaluation.similarity.shared_texts.student_t", lambda freedom: 1.0)
    generator = np.random.default_rng(3)
    first, second = (generator.integers(12, size=300).astype(str).tolist() for _ in range(2))
    first[:4], second[:4] = ["1", "2", "5", "5"], ["2", "1", "5", "5"]  # the same two, and a text with itself
    influence = 1 + generator.normal(size=300)
    sharing = by_definition(np.ones(300), first, second)
    clusters = 300 / sharing
    expected = np.sqrt(by_definition(influence, first, second) * clusters / (clusters - 1))
    assert widening(influence, first, second) == pytest.approx(expected)


def test_few_texts_in_many_pairs_are_few_observations():
    """The same sums, with fewer texts to estimate them from, need a wider interval."""
    influence = np.repeat([1.0, -1.0], 60)  # what two texts do, or twenty
    few, many = ([str(number // size) for number in range(120)] for size in (60, 6))
    others = [f"other {number}" for number in range(120)]
    assert widening(influence, few, others) / np.sqrt(60) == pytest.approx(12.7 / 1.96 * np.sqrt(2), rel=0.01)
    assert widening(influence, many, others) / np.sqrt(6) == pytest.approx(2.093 / 1.96 * np.sqrt(20 / 19), rel=0.01)


def test_an_interval_is_never_made_narrower():
    """What is in one text's pairs up and down alike cancels out, but pairs alone do not know that."""
    first, second = [str(number // 2) for number in range(40)], [f"other {number}" for number in range(40)]
    assert widening(np.tile([1.0, -1.0], 20), first, second) == 1.0


def test_nothing_that_changes_needs_no_wider_interval():
    assert widening(np.zeros(4), ["a"] * 4, ["b", "c", "d", "e"]) == 1.0
