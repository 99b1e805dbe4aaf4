from __future__ import annotations

import numpy as np

from mlm_recipes.masking.split_characters import SplitCharacters
from mlm_recipes.masking.word_flags import ENDS, JOINS, OPEN, OWN

CHINESE, THAI, ACCENT = "漢".encode(), "ก".encode(), "\u0e31".encode()  # the last belongs to the letter before it
CONTENTS = {
    **{1: CHINESE[:1], 2: CHINESE[1:], 3: THAI + ACCENT[:2], 4: ACCENT[2:]},
    **{5: "é".encode()[:1], 6: "é".encode()[1:], 8: ACCENT[:2]},
}
TOKENS = SplitCharacters(CONTENTS)


def flags(ids, where=None, starts=(0,)):
    where = np.arange(len(ids)) if where is None else np.array(where)
    return TOKENS.flags(np.array(ids), where, np.array(starts)).tolist()


def test_a_character_of_two_tokens_is_what_it_is_together():
    assert flags([1, 2]) == [OWN | ENDS, JOINS | ENDS]
    assert flags([5, 6]) == [0, JOINS]


def test_tokens_that_are_no_neighbours_have_no_character_in_common():
    assert flags([1, 2], where=[0, 2])[1] == JOINS | OPEN
    assert flags([1, 2], where=[3, 4], starts=[0, 4])[1] == JOINS | OPEN


def test_an_accent_ends_as_the_letter_before_it():
    assert flags([3, 4]) == [OWN | ENDS, JOINS | ENDS]
    assert flags([8, 4]) == [JOINS | OPEN, JOINS | OPEN]


def test_a_token_may_end_one_character_and_begin_another():
    whole = SplitCharacters({1: CHINESE[:2], 2: CHINESE[2:] + CHINESE[:1], 3: CHINESE[1:]})
    found = whole.flags(np.array([1, 2, 3]), np.arange(3), np.array([0]))
    assert found.tolist() == [OWN | ENDS, JOINS | ENDS, JOINS | ENDS]


def test_what_is_cut_off_is_taken_for_the_last_character_that_begins_so():
    assert flags([1]) == [OWN | ENDS]  # most of those with this first byte are Chinese
    assert flags([5]) == [0]
