"""Chooses each token by itself, informative ones more often: with a probability proportional to a weight of its id."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import CHOOSE, Bools, Floats


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose each maskable token independently, with the probability of `probabilities`.

    `shares` has shape `(batch,)`. The result has shape `(tokens,)` and is True for every chosen token. With
    `at_least_one`, a sequence without a chosen token gets the one that was nearest to being chosen. With equal weights,
    these are the masks of `token`, up to rounding.

    The weights come from `mlm_recipes.masking.token_weights`, which names its sources.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> ids, maskable = np.array([2, 0, 1, 1, 2]), np.array([False, True, True, True, False])
    >>> tokens = FlatTokens(ids, maskable, sequence_keys(0, 0, [0]), np.array([5]), weights=np.array([1e9, 1.0, 1.0]))
    >>> choose(tokens, np.array([1 / 3])).tolist()
    [False, True, False, False, False]
    """
    chances = probabilities(tokens, shares)
    numbers = np.full(len(chances), np.inf)
    np.divide(tokens.draw(CHOOSE), chances, out=numbers, where=chances > 0)
    chosen = numbers < 1.0
    if at_least_one:
        lowest = np.full(len(tokens.lengths), np.inf)
        np.minimum.at(lowest, tokens.sequence, numbers)
        chosen |= tokens.maskable & (numbers == lowest[tokens.sequence])
    return chosen


def probabilities(tokens: FlatTokens, shares: Floats) -> Floats:
    """Return the probability with which each token is chosen, shape `(tokens,)`; 0 for those that may not be.

    In each sequence they are proportional to the tokens' weights, and their sum is the sequence's share of its maskable
    tokens. A probability that would exceed 1 is 1, and the rest of the sum is distributed over the others by their
    weights, as in sampling with inclusion probabilities proportional to size (Särndal, Swensson and Wretman 1992,
    Model Assisted Survey Sampling, section 3.6). The sum is that of each sequence, not of the whole text: so every
    sequence has tokens to learn from, the others stay visible, and nothing but the sequence itself is needed.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> tokens = FlatTokens(np.array([0, 1, 2, 2]), np.full(4, True), sequence_keys(0, 0, [0]), np.array([4]),
    ...                     weights=np.array([8.0, 2.0, 1.0]))
    >>> probabilities(tokens, np.array([0.25])).round(3).tolist()
    [0.667, 0.167, 0.083, 0.083]
    >>> probabilities(tokens, np.array([0.5])).tolist()  # four tokens of twelve would be two thirds of two, above 1
    [1.0, 0.5, 0.25, 0.25]
    """
    assert tokens.weights is not None, "the policy table says that this policy needs weights"
    sequence, size = tokens.sequence, len(tokens.lengths)
    weights = np.where(tokens.maskable, tokens.weights[tokens.ids], 0.0)
    left = shares * np.bincount(sequence[tokens.maskable], minlength=size)  # what is to be distributed, (batch,)
    certain = np.full(len(weights), False)
    while True:
        # Summed in the order of the tokens, so that a sequence's sum has the same bits in any batch.
        open_weights = np.where(certain, 0.0, weights)
        sums = np.bincount(sequence, weights=open_weights, minlength=size)
        scale = np.divide(left, sums, out=np.zeros(size), where=sums > 0)
        found = np.where(certain, 1.0, open_weights * scale[sequence])
        above = found > 1.0
        if not above.any():
            return found
        certain |= above
        left = np.maximum(left - np.bincount(sequence[above], minlength=size), 0.0)
