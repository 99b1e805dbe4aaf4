from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_bert
from same_run import assert_close, assert_same_weights, flat_weights

from mlm_recipes.model.rounding_bounds import rounding_bound, summed_terms


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("terms", [100, 10_000, 1_000_000])
def test_a_different_order_of_a_sum_stays_within_the_bound(terms, dtype):
    """A sequential sum, the order with the largest rounding; it sometimes exceeds a thousandth of the bound."""
    generator = np.random.default_rng(0)
    far = 0.0
    for _ in range(20 if terms < 1_000_000 else 3):
        numbers = generator.random(terms, dtype=dtype)
        forward, backward = (float(np.cumsum(each)[-1]) for each in (numbers, numbers[::-1]))
        far = max(far, abs(forward - backward) / forward)
    bound = rounding_bound(terms, torch.from_numpy(numbers).dtype)
    assert bound / 1000 < far <= bound


def test_summed_terms_counts_the_sums_of_a_model(tokenizer):
    model = make_bert(tokenizer)
    assert summed_terms(model, 100) < summed_terms(make_bert(tokenizer, num_hidden_layers=3), 100)
    assert summed_terms(model, 100, passes=3) == 3 * summed_terms(model, 100)


def test_a_real_difference_exceeds_the_bound(tokenizer):
    with pytest.raises(AssertionError, match="differs by"):
        assert_close([1.0, 1.001], [1.0, 1.0], bound=1e-4)
    model = make_bert(tokenizer)
    start = flat_weights(model)
    moved = start + 0.01 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    assert_same_weights(moved, moved, model, steps=4)
    with pytest.raises(AssertionError, match="weights differ"):
        assert_same_weights(moved + 0.01 * (moved - start), moved, model, steps=4)
    with pytest.raises(AssertionError, match="too little to agree about"):
        assert_same_weights(start, start, model, steps=4)
