"""`FlatTokens`: what a masking policy sees of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .random_keys import Bools, Floats, Ints, Keys, draw


@dataclass(frozen=True)
class FlatTokens:
    """A batch's sequences one after the other, without padding, so that padding and the batch's shape change no mask.

    Attributes:
        ids: the tokens, shape `(tokens,)`.
        maskable: True for every token that may be chosen: not special, not padding; shape `(tokens,)`.
        keys: one for each sequence, the source of its random numbers; shape `(batch,)`.
        lengths: the number of tokens of each sequence, shape `(batch,)`.
        words: the number of the word that a token belongs to, shape `(tokens,)`, rising along each sequence; None if
            the policy does not ask for it.
        weights: how much each id of the vocabulary attracts masks, shape `(ids,)`; None if the policy does not ask.
        ngram: how many neighbours are masked together, for the policy that masks runs of tokens.
    """

    ids: Ints
    maskable: Bools
    keys: Keys
    lengths: Ints
    words: Ints | None = None
    weights: Floats | None = None
    ngram: int = 1

    def draw(self, purpose: int) -> Floats:
        """Return one number in [0, 1) per token, shape `(tokens,)`: see `mlm_recipes.masking.random_keys.draw`."""
        return draw(self.keys, self.lengths, purpose)

    @property
    def sequence(self) -> Ints:
        """The index of the sequence that each token belongs to, shape `(tokens,)`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def first_of(self, units: Ints) -> Ints:
        """Return the position of the first token of each token's unit, such as its word, shape `(tokens,)`.

        `units` are their numbers, as in `words`.
        """
        begins = np.diff(units, prepend=-1) != 0
        begins[(np.cumsum(self.lengths) - self.lengths)[self.lengths > 0]] = True
        where = np.flatnonzero(begins)
        return np.repeat(where, np.diff(where, append=len(units)))

    def with_lowest(self, numbers: Floats) -> Bools:
        """Return the maskable tokens that have the lowest number in their sequence, shape `(tokens,)`.

        All pieces of a word are returned if they have the same number.
        """
        numbers = np.where(self.maskable, numbers, np.inf)
        lowest = np.full(len(self.lengths), np.inf)
        np.minimum.at(lowest, self.sequence, numbers)
        return self.maskable & (numbers == lowest[self.sequence])
