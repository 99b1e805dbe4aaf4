from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policy_table import POLICIES
from mlm_recipes.masking.random_keys import sequence_keys

every = pytest.mark.parametrize("name", sorted(POLICIES))


def batch_of(lengths, ids=None):
    """Return sequences of some lengths; each begins and ends with a special token, and a word has three tokens."""
    total = sum(lengths)
    ends = np.cumsum(lengths)
    maskable = np.full(total, True)
    maskable[ends - 1] = maskable[ends - np.array(lengths)] = False
    place = np.arange(total) - np.repeat(ends - np.array(lengths), lengths)
    keys = sequence_keys(0, 0, range(len(lengths)) if ids is None else ids)
    tokens = np.where(maskable, 200 + place % 50, 101)
    return FlatTokens(tokens, maskable, keys, np.array(lengths), words=(place + 2) // 3, weights=np.ones(300))


@every
@given(st.lists(st.integers(2, 60), min_size=1, max_size=8), st.floats(0.01, 1.0), st.booleans())
def test_no_special_token_is_chosen(name, lengths, share, at_least_one):
    tokens = batch_of(lengths)
    chosen = POLICIES[name].choose(tokens, np.full(len(lengths), share), at_least_one)
    assert chosen.dtype == np.bool_
    assert chosen.shape == tokens.maskable.shape
    assert not chosen[~tokens.maskable].any()


@every
@given(st.lists(st.integers(2, 60), min_size=1, max_size=8), st.floats(0.01, 1.0), st.booleans(), st.data())
def test_a_sequences_masks_do_not_depend_on_its_batch(name, lengths, share, at_least_one, data):
    one = data.draw(st.integers(0, len(lengths) - 1))
    together = POLICIES[name].choose(batch_of(lengths), np.full(len(lengths), share), at_least_one)
    alone = POLICIES[name].choose(batch_of([lengths[one]], [one]), np.array([share]), at_least_one)
    assert (np.split(together, np.cumsum(lengths)[:-1])[one] == alone).all()


@every
@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
def test_the_share_is_the_one_asked_for(name, share):
    tokens = batch_of([128] * 2000)
    chosen = POLICIES[name].choose(tokens, np.full(2000, share), False)
    # Neighbours may be chosen together, at most a dozen; the bound is four standard deviations of independent dozens.
    tolerance = 4 * (share * (1 - share) / (tokens.maskable.sum() / 12)) ** 0.5
    assert abs(chosen[tokens.maskable].mean() - share) < tolerance


@every
def test_at_least_one_token_of_every_sequence_is_chosen_if_asked(name):
    tokens = batch_of([5] * 500)
    chosen = POLICIES[name].choose(tokens, np.full(500, 1e-9), True)
    assert (np.add.reduceat(chosen, np.arange(0, 2500, 5)) >= 1).all()
