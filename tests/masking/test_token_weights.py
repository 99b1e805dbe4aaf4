from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from mlm_recipes.masking.token_weights import favoured, token_weights, weights_fingerprint


def test_the_weights_follow_the_formula():
    counts, general = [0, 700, 150, 0, 3], [0, 400, 0, 90, 0]
    both = [a + b for a, b in zip(counts, general, strict=True)]
    prior = [500 * n / sum(both) for n in both]
    expected = []
    for n, m, p in zip(counts, general, prior, strict=True):
        if not p:
            expected.append(1.0)
            continue
        a, b = n + p, m + p
        odds = log(a / (sum(counts) + 500 - a)) - log(b / (sum(general) + 500 - b))
        expected.append(1 + max(0.0, odds - sqrt(1 / a + 1 / b)))
    assert token_weights(counts, general).tolist() == pytest.approx(expected, abs=0.0006)
    assert token_weights(counts, general)[2] > 1.9
    assert token_weights(counts, general)[3] == 1  # what is only in the general text is not masked less than others


def test_a_token_needs_evidence_to_stand_out():
    """Of tokens that the general text lacks, one that occurs once is not typical, one that occurs often is."""
    counts, general = np.full(300, 200), np.full(300, 200)
    general[:3] = 0
    counts[:3] = 1, 20, 400
    once, some, often = token_weights(counts, general)[:3]
    assert once == 1 < some < often


def test_the_lengths_of_the_texts_do_not_matter():
    counts, general = np.array([1000, 500, 300]), np.array([1000, 800, 0])
    for factor in (1, 10, 100):
        weights = token_weights(counts * factor, general)
        assert weights[2] > 1.5, factor
        assert weights[1] == 1, factor


@pytest.mark.parametrize(
    ("counts", "general", "says"),
    [
        ([1, 2], [1, 2, 3], "general_counts: received the shape"),
        ([[1, 2]], [[1, 2]], "general_counts: received the shape"),
        ([0, 0], [1, 2], "counts: received no tokens"),
        ([1, 2], [0, 0], "general_counts: received no tokens"),
    ],
)
def test_counts_that_cannot_be_compared_are_refused(counts, general, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        token_weights(counts, general)


def test_a_text_of_one_token_has_finite_weights():
    assert np.isfinite(token_weights([5, 0], [0, 5])).all()
    assert np.isfinite(token_weights([5, 0], [5, 0])).all()


def test_favoured_lists_what_occurs_in_the_text_and_stands_out():
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.5])
    most, least = favoured(weights, [10, 4, 30, 0, 1])
    assert most.tolist() == [1, 4]  # id 3 does not occur
    assert least.tolist() == [2, 0]
    most, least = favoured(np.ones(3), [1, 2, 3])
    assert most.tolist() == []
    assert least.tolist() == [2, 1, 0]


def test_the_fingerprint_depends_on_every_weight():
    assert len({weights_fingerprint(each) for each in ([1.0, 2.0], [1.0, 2.001], [2.0, 1.0], [1.0, 2.0, 1.0])}) == 4
