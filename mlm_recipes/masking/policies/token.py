"""Chooses each token by itself, as BERT does."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import CHOOSE, Bools, Floats


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose each maskable token with its sequence's probability, independently (BERT; Devlin et al. 2019).

    `shares` has shape `(batch,)`. The result has shape `(tokens,)` and is True for every chosen token. With
    `at_least_one`, a sequence without a chosen token gets the one whose random number is lowest.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> maskable = np.array([False, True, True, False])
    >>> tokens = FlatTokens(np.array([101, 7, 8, 102]), maskable, sequence_keys(0, 0, [0]), np.array([4]))
    >>> choose(tokens, np.array([1.0])).tolist()
    [False, True, True, False]
    >>> int(choose(tokens, np.array([1e-9]), at_least_one=True).sum())
    1
    """
    numbers = np.where(tokens.maskable, tokens.draw(CHOOSE), 1.0)  # a drawn number is always below 1.0
    chosen = numbers < np.repeat(shares, tokens.lengths)
    return chosen | tokens.with_lowest(numbers) if at_least_one else chosen
