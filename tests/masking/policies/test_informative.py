from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies import informative, token
from mlm_recipes.masking.policies.informative import probabilities
from mlm_recipes.masking.random_keys import sequence_keys

positive = st.floats(1e-3, 1e3)


def batch_of(rows, weights):
    """Return sequences of ids, of which the first and the last are special."""
    lengths = np.array([len(row) for row in rows])
    ends = np.cumsum(lengths)
    maskable = np.full(ends[-1], True)
    maskable[ends - 1] = maskable[ends - lengths] = False
    keys = sequence_keys(0, 0, range(len(rows)))
    return FlatTokens(np.concatenate(rows), maskable, keys, lengths, weights=np.asarray(weights, dtype=float))


def scaled(weights, share):
    """The same probabilities, found by halving an interval: min(1, scale * weight), with a sum of share * tokens."""
    low, high = 0.0, 1.0 / min(weights)
    for _ in range(200):
        scale = (low + high) / 2
        above = np.minimum(1.0, scale * weights).sum() > share * len(weights)
        low, high = (low, scale) if above else (scale, high)
    return np.minimum(1.0, low * weights)


@given(st.lists(st.lists(positive, min_size=1, max_size=30), min_size=1, max_size=5), st.floats(0.01, 1.0))
def test_probabilities_are_proportional_to_the_weights_and_sum_to_the_share(rows, share):
    flat = np.concatenate([[1.0, *row, 1.0] for row in rows])
    lengths = [len(row) + 2 for row in rows]
    tokens = batch_of(np.split(np.arange(len(flat)), np.cumsum(lengths)[:-1]), flat)
    found = np.split(probabilities(tokens, np.full(len(rows), share)), np.cumsum(lengths)[:-1])
    for row, chances in zip(rows, found, strict=True):
        assert chances[0] == chances[-1] == 0
        assert chances.max() <= 1
        assert chances.sum() == pytest.approx(share * len(row), rel=1e-9)
        assert chances[1:-1] == pytest.approx(scaled(np.array(row), share), rel=1e-6, abs=1e-9)


def test_with_equal_weights_the_masks_are_those_of_single_tokens():
    rows = [np.full(n, 7) for n in (30, 4, 90)]
    shares = np.array([0.15, 0.9, 0.4])
    for at_least_one in (False, True):
        expected = token.choose(batch_of(rows, np.ones(8)), shares, at_least_one)
        assert (informative.choose(batch_of(rows, np.full(8, 3.0)), shares, at_least_one) == expected).all()
        assert expected.any()


def test_a_token_is_masked_as_often_as_its_weight_says():
    rows = [np.array([0, 1, 1, 1, 2, 2, 3, 0])] * 20_000
    tokens = batch_of(rows, [1, 1, 2, 5])
    chosen = informative.choose(tokens, np.full(len(rows), 0.3))
    for weight, index in ((1, 1), (2, 2), (5, 3)):  # 0.3 of six tokens, whose weights sum up to 12
        share, expected = chosen[tokens.ids == index].mean(), 1.8 * weight / 12
        count = (tokens.ids == index).sum()
        assert abs(share - expected) < 4 * (expected * (1 - expected) / count) ** 0.5, index


def test_a_certain_token_leaves_the_others_their_part():
    tokens = batch_of([np.array([0, 1, 2, 2, 0])] * 5000, [1, 1e6, 1])
    chosen = informative.choose(tokens, np.full(5000, 0.5))
    assert chosen[tokens.ids == 1].all()
    assert abs(chosen[tokens.ids == 2].mean() - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5


def test_all_tokens_are_masked_if_asked_whatever_their_weights():
    tokens = batch_of([np.arange(60)] * 20, np.geomspace(1e-3, 1e3, 60))
    assert (informative.choose(tokens, np.ones(20)) == tokens.maskable).all()


def test_a_sequence_without_a_maskable_token_has_no_mask():
    tokens = batch_of([np.array([0, 1]), np.array([0, 1, 0])], [1, 2])
    assert informative.choose(tokens, np.array([0.5, 1.0]), at_least_one=True).tolist() == [False] * 3 + [True, False]


def test_the_collator_masks_by_weights_joined_and_padded_and_evaluates_without(tokenizer):
    weights = np.ones(len(tokenizer))
    weights[200] = 50
    rows = [{"input_ids": [101, *[200, 300] * n, 102], "example_id": n} for n in range(1, 40)]
    values = {"masking_policy": "informative", "token_weights": weights.tolist(), "static_masks": True}
    collate = DataCollatorForMaskedLM(tokenizer, **values)
    padded, joined = collate(rows), collate.changed(padding_free=True)(rows)
    labels = padded["labels"][padded["attention_mask"].bool()]
    assert torch.equal(labels, joined["labels"][0])
    assert (labels == 200).sum() > 10 * (labels == 300).sum() > 0
    plain = DataCollatorForMaskedLM(tokenizer).frozen(seed=0)(rows)
    assert torch.equal(plain["labels"], collate.frozen(seed=0)(rows)["labels"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, r"received None with masking_policy 'informative'.*Compute them: token_weights\(count_ids"),
        ({"token_weights": [1.0, 2.0]}, r"shape \(2,\).*each of the tokenizer's \d+ ids"),
        ({"token_weights": np.zeros(5000)}, "from 0 to 0.*above 0"),
        ({"token_weights": np.full(5000, np.nan)}, "finite"),
        ({"token_weights": np.full(5000, np.inf)}, "from inf to inf.*finite"),
        ({"token_weights": "idf"}, "received str"),
        ({"token_weights": np.ones(5000), "masking_policy": "token"}, "'token', which does not use them"),
    ],
)
def test_weights_that_are_missing_or_unusable_are_refused(tokenizer, values, says):
    with pytest.raises(ValueError, match=f"^token_weights: .*{says}"):
        DataCollatorForMaskedLM(tokenizer, **({"masking_policy": "informative"} | values))


def test_an_id_without_a_weight_is_refused(tokenizer):
    collate = DataCollatorForMaskedLM(
        tokenizer, masking_policy="informative", token_weights=np.ones(len(tokenizer)), seed=1
    )
    assert len(collate([[101, 200, 102]])["labels"])
    with pytest.raises(ValueError, match=f"received {len(tokenizer)} weights, and a row has the id 5000"):
        collate([[101, 5000, 102]])
