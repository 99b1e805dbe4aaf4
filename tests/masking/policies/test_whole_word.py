from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.whole_word import choose
from mlm_recipes.masking.random_keys import sequence_keys


def tokens_of(rows, unmaskable=()):
    """Return a batch of rows; each row is the numbers of pieces of its words."""
    lengths = np.array([sum(row) for row in rows])
    words = np.concatenate([np.repeat(np.arange(len(row)), row) for row in rows])
    maskable = np.full(len(words), True)
    maskable[[place for place in unmaskable if place < len(words)]] = False
    return FlatTokens(np.arange(len(words)), maskable, sequence_keys(3, 0, range(len(rows))), lengths, words)


ROWS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=20), min_size=1, max_size=5)


@given(ROWS, st.sets(st.integers(0, 100)), st.floats(0.05, 0.95), st.booleans())
def test_a_word_is_masked_whole_or_not_at_all(rows, unmaskable, share, at_least_one):
    tokens = tokens_of(rows, unmaskable)
    chosen = choose(tokens, np.full(len(rows), share), at_least_one)
    assert not chosen[~tokens.maskable].any()
    for row in range(len(rows)):
        of_row = tokens.sequence == row
        for word in set(tokens.words[of_row].tolist()):
            pieces = of_row & tokens.maskable & (tokens.words == word)
            assert chosen[pieces].sum() in (0, pieces.sum())
        if at_least_one and tokens.maskable[of_row].any():
            assert chosen[of_row].any()


def test_the_number_of_masked_tokens_varies_as_stated():
    """The variance is the sum of the squared numbers of pieces, times p(1 - p)."""
    row, share, rows = [1, 3, 1, 2, 5, 1, 1], 0.3, 20_000
    counts = choose(tokens_of([row] * rows), np.full(rows, share)).reshape(rows, -1).sum(1)
    variance = sum(pieces**2 for pieces in row) * share * (1 - share)
    assert abs(counts.mean() - share * sum(row)) < 4 * (variance / rows) ** 0.5
    # The variance of a sample variance is at most (fourth moment) / rows, here below 5 * variance ** 2 / rows.
    assert abs(counts.var() - variance) < 4 * variance * (5 / rows) ** 0.5
