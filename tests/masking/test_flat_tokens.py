from __future__ import annotations

import numpy as np

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.random_keys import sequence_keys


def batch(maskable, lengths):
    return FlatTokens(
        np.arange(len(maskable)), np.array(maskable), sequence_keys(0, 0, range(len(lengths))), np.array(lengths)
    )


def test_the_lowest_number_is_looked_for_among_maskable_tokens():
    tokens = batch([False, True, True, True, False, False], [4, 2])
    found = tokens.with_lowest(np.array([0.1, 0.5, 0.3, 0.3, 0.2, 0.4]))
    assert found.tolist() == [False, False, True, True, False, False]


def test_a_unit_does_not_go_on_in_the_next_sequence():
    tokens = batch([True] * 6, [3, 0, 3])
    assert tokens.first_of(np.array([0, 1, 1, 1, 1, 2])).tolist() == [0, 1, 1, 3, 3, 5]
