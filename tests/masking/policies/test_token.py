from __future__ import annotations

import numpy as np

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.token import choose
from mlm_recipes.masking.random_keys import sequence_keys


def test_choose_takes_the_given_share_and_no_special_token():
    maskable = np.arange(100_000) % 5 != 0
    tokens = FlatTokens(np.full(100_000, 7), maskable, sequence_keys(0, 0, [0]), np.array([100_000]))
    chosen = choose(tokens, np.array([0.15]))
    assert not chosen[~maskable].any()
    assert abs(chosen[maskable].mean() - 0.15) < 0.005


def test_each_sequence_has_its_own_share():
    tokens = FlatTokens(np.full(20_000, 7), np.full(20_000, True), sequence_keys(0, 0, [0, 1]), np.array([10_000] * 2))
    chosen = choose(tokens, np.array([0.05, 0.5]))
    assert abs(chosen[:10_000].mean() - 0.05) < 4 * (0.05 * 0.95 / 10_000) ** 0.5
    assert abs(chosen[10_000:].mean() - 0.5) < 4 * (0.5 * 0.5 / 10_000) ** 0.5
