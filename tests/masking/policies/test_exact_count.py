from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.exact_count import choose
from mlm_recipes.masking.random_keys import CHOOSE, ROUND, draw, sequence_keys


def batch_of(lengths, seed=0):
    total = sum(lengths)
    maskable = np.arange(total) % 7 != 3
    return FlatTokens(np.arange(total), maskable, sequence_keys(seed, 0, range(len(lengths))), np.array(lengths))


def plain(tokens, shares, at_least_one):
    """Sort each sequence's tokens by their number and take the first ones, a sequence at a time."""
    numbers, chosen, start = tokens.draw(CHOOSE), np.zeros(len(tokens.ids), dtype=bool), 0
    rounding = draw(tokens.keys, np.ones(len(tokens.keys), dtype=np.int64), ROUND)
    for length, share, extra in zip(tokens.lengths.tolist(), shares, rounding, strict=True):
        places = [place for place in range(start, start + length) if tokens.maskable[place]]
        exact = round(share * len(places), 9)
        wanted = math.floor(exact) + (extra >= 1 - (exact - math.floor(exact)))
        wanted = min(len(places), max(wanted, int(at_least_one)))
        for place in sorted(places, key=lambda place: numbers[place])[:wanted]:
            chosen[place] = True
        start += length
    return chosen


@given(st.lists(st.integers(0, 80), min_size=1, max_size=8), st.sampled_from([0.05, 0.15, 0.5, 1.0]), st.booleans())
def test_it_is_the_plain_version(lengths, share, at_least_one):
    tokens, shares = batch_of(lengths), np.full(len(lengths), share)
    assert (choose(tokens, shares, at_least_one) == plain(tokens, shares, at_least_one)).all()


@given(st.lists(st.integers(1, 80), min_size=1, max_size=8), st.floats(0.01, 1.0))
def test_the_number_is_the_share_rounded_down_or_up(lengths, share):
    tokens = batch_of(lengths)
    counts = np.bincount(tokens.sequence, choose(tokens, np.full(len(lengths), share)), len(lengths))
    exact = share * np.bincount(tokens.sequence, tokens.maskable, len(lengths))
    assert ((counts >= np.floor(exact - 1e-9)) & (counts <= np.ceil(exact + 1e-9))).all()


def test_every_token_is_as_likely_and_short_rows_have_their_share():
    rows, length, share = 20_000, 3, 0.15
    tokens = FlatTokens(
        np.arange(rows * length), np.full(rows * length, True), sequence_keys(1, 0, range(rows)), np.full(rows, length)
    )
    chosen = choose(tokens, np.full(rows, share)).reshape(rows, length)
    assert set(chosen.sum(1).tolist()) == {0, 1}
    assert (abs(chosen.mean(0) - share) < 4 * (share * (1 - share) / rows) ** 0.5).all()
