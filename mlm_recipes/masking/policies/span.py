"""Chooses spans of words, as SpanBERT does."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import Bools, Floats
from ..runs import choose_runs

#: The longest span, in words, and the parameter of the geometric distribution of the lengths.
LONGEST, PARAMETER = 10, 0.2

_WEIGHTS = PARAMETER * (1 - PARAMETER) ** np.arange(LONGEST)

#: The probability of each length, from 1 to LONGEST: geometric, without the longer ones; the mean is 3.8.
LENGTHS: Floats = _WEIGHTS / _WEIGHTS.sum()


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose spans of words (SpanBERT; Joshi et al. 2020, arXiv:1907.10529): geometric lengths, 1 to 10 words.

    SpanBERT draws spans until a share of a row is covered, and joins those that meet. Here spans are at least a word
    apart up to a share of 0.79, so their lengths are those drawn, and the share is right on average, for each word of
    each row, instead of in each row (`mlm_recipes.masking.runs`). The number of masked tokens varies more: at 15%, its
    variance is 4.5 times that of whole words.

    `shares` has shape `(batch,)`; the result has shape `(tokens,)`. With `at_least_one`, a sequence without a span gets
    one of one word.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> tokens = FlatTokens(np.arange(30), np.full(30, True), sequence_keys(0, 0, [5]), np.array([30]), np.arange(30))
    >>> np.flatnonzero(choose(tokens, np.array([0.15]))).tolist()
    [8]
    """
    assert tokens.words is not None, "the table says that this policy needs words"
    return choose_runs(tokens, tokens.words, shares, LENGTHS, at_least_one)
