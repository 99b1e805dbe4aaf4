from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.masking.random_keys import sequence_keys
from mlm_recipes.masking.replacement import replace_chosen


@pytest.mark.parametrize(("mask", "at_random"), [(0.8, 0.1), (0.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.0)])
def test_replace_chosen_keeps_its_shares(mask, at_random):
    n = 100_000
    input_ids, chosen = np.full(n, 7), np.arange(n) % 2 == 0
    ordinary = np.arange(1000, 1500)
    replaced = replace_chosen(
        input_ids,
        chosen,
        sequence_keys(0, 0, [0]),
        np.array([n]),
        mask_token_id=103,
        ordinary_token_ids=ordinary,
        mask_replace_prob=mask,
        random_replace_prob=at_random,
    )
    assert (replaced[~chosen] == 7).all()
    assert (input_ids == 7).all()  # the caller's array is unchanged
    got = replaced[chosen]
    assert abs((got == 103).mean() - mask) < 0.01
    assert abs(np.isin(got, ordinary).mean() - at_random) < 0.01
    assert abs((got == 7).mean() - (1 - mask - at_random)) < 0.01
    if at_random == 1.0:
        assert set(got) == set(ordinary)  # the whole vocabulary, including the first and the last token
