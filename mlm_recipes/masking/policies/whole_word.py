"""Chooses whole words."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import CHOOSE, Bools, Floats


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose each word with its sequence's probability, with all of its pieces that may be masked.

    The pieces that BERT's authors masked together (https://github.com/google-research/bert, May 2019). A token is
    chosen if its word is, so the expected share of the tokens is the one asked for, in a row of any length. It varies
    more than with single tokens: the variance is the sum of the squared numbers of pieces of all words, times p(1 - p),
    where single tokens have their number in place of that sum.

    `shares` has shape `(batch,)`; the result has shape `(tokens,)`. With `at_least_one`, a sequence without a chosen
    word gets the one whose random number is lowest.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> maskable, words = np.array([False, True, True, True, False]), np.array([0, 1, 1, 2, 3])
    >>> tokens = FlatTokens(np.array([101, 7, 8, 9, 102]), maskable, sequence_keys(0, 0, [4]), np.array([5]), words)
    >>> choose(tokens, np.array([0.5])).tolist()
    [False, False, False, True, False]
    """
    assert tokens.words is not None, "the table says that this policy needs words"
    numbers = tokens.draw(CHOOSE)[tokens.first_of(tokens.words)]  # a word's number is that of its first token
    chosen: Bools = tokens.maskable & (numbers < np.repeat(shares, tokens.lengths))
    return chosen | tokens.with_lowest(numbers) if at_least_one else chosen
