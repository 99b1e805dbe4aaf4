"""Chooses a fixed number of tokens of each sequence."""

from __future__ import annotations

import numpy as np

from ..flat_tokens import FlatTokens
from ..random_keys import CHOOSE, ROUND, Bools, Floats, draw

#: A token's number has so many random bits, and below them so many of its place, which decides between equal ones.
_RANDOM_BITS, _PLACE_BITS = 38, 24


def choose(tokens: FlatTokens, shares: Floats, at_least_one: bool = False) -> Bools:
    """Choose the sequence's share of its maskable tokens, rounded to a whole number, uniformly without replacement.

    The number is rounded up or down at random, so that the expected share is the one asked for in short sequences too:
    three tokens at 15% have a masked one in 45% of the epochs. BERT rounds to the nearest, and up to one (Devlin et al.
    2019, create_pretraining_data.py). With `at_least_one` it is at least one, where there is a token to mask.

    `shares` has shape `(batch,)`; the result has shape `(tokens,)`.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> tokens = FlatTokens(np.arange(40), np.full(40, True), sequence_keys(0, 0, [0, 1]), np.array([20, 20]))
    >>> chosen = choose(tokens, np.array([0.15, 0.15]))
    >>> int(chosen[:20].sum()), int(chosen[20:].sum())
    (3, 3)
    """
    sequence = tokens.sequence
    maskable = np.flatnonzero(tokens.maskable)
    available = np.bincount(sequence[maskable], minlength=len(tokens.lengths))
    rounding = draw(tokens.keys, np.ones(len(tokens.keys), dtype=np.int64), ROUND)
    # In steps of 2**-40, so that 0.15 of 20 is 3, and not a little more.
    wanted = np.floor(np.round(shares * available * 2.0**40) * 2.0**-40 + rounding).astype(np.int64)
    wanted = np.minimum(np.maximum(wanted, int(at_least_one)), available)
    numbers = (tokens.draw(CHOOSE)[maskable] * 2.0**_RANDOM_BITS).astype(np.int64) << _PLACE_BITS
    numbers += np.arange(len(maskable)) - np.repeat(np.cumsum(available) - available, available)  # no two are equal
    table = np.full((len(available), max(1, int(available.max(initial=0)))), np.iinfo(np.int64).max)
    table[np.arange(table.shape[1]) < available[:, None]] = numbers
    table.sort(axis=1)  # a sequence's numbers, in 2D because short sorts are the fast ones
    highest = np.where(wanted > 0, table[np.arange(len(table)), np.maximum(wanted, 1) - 1], -1)
    chosen = np.zeros(len(tokens.ids), dtype=np.bool_)
    chosen[maskable[numbers <= np.repeat(highest, available)]] = True
    return chosen
