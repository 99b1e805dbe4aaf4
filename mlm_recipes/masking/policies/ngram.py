"""Chooses runs of tokens, for text without words, such as DNA."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import Bools, Floats
from ..runs import choose_runs


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose runs of `tokens.ngram` neighbours (DNABERT; Ji et al. 2021, doi:10.1093/bioinformatics/btab083).

    Overlapping k-mers share k - 1 letters with their neighbours, so that a single masked one can be copied from them.
    Of k masked neighbours one letter is in no other token, and that is the fewest that hide one. DNABERT chooses single
    tokens and then their neighbours, so that its share must be given divided by k, and its runs may meet; here the
    share is that of the tokens, and runs are at least a token apart up to a share of n / (n + 1).

    `shares` has shape `(batch,)`; the result has shape `(tokens,)`. Runs are cut off at the ends of a sequence, where
    no neighbour gives anything away. With `at_least_one`, a sequence without a run gets one.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> tokens = FlatTokens(np.arange(30), np.full(30, True), sequence_keys(0, 0, [5]), np.array([30]), ngram=6)
    >>> np.flatnonzero(choose(tokens, np.array([0.15]), at_least_one=True)).tolist()
    [12, 13, 14, 15, 16, 17]
    """
    lengths = np.zeros(tokens.ngram)
    lengths[-1] = 1
    return choose_runs(tokens, np.arange(len(tokens.ids)), shares, lengths, at_least_one)
