"""Kinds of characters, as far as the borders of words depend on them."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

#: What a character is: `space`; `own`, a word by itself; `mark`, part of the character before it, such as an accent;
#: and `inner`, part of a word of several characters.
Kind = Literal["space", "own", "mark", "inner"]

#: Scripts that do not separate words: the first and the last code point of a block, both included. Chinese characters,
#: kana and Bopomofo; and Thai, Lao, Burmese, Khmer, Tai and Ahom, which are those whose words need a dictionary
#: (class SA of Unicode Standard Annex #14). Korean separates words by spaces, and Tibetan its syllables by a mark.
_WITHOUT_SPACES = (
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3038, 0x303B), (0x3041, 0x30FF)),
    *((0x3100, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF)),
    *((0x0E01, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x19E0, 0x19FF)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAADF), (0x11700, 0x1174F)),
)


@lru_cache(maxsize=2**16)
def kind_of(character: str) -> Kind:
    """Return the kind of a character.

    Punctuation is what BERT counts as such (Devlin et al. 2019): the categories P of Unicode, and every character of
    ASCII that is neither a letter, a digit, white space nor a control character.

    >>> [kind_of(character) for character in "a7é -$中の\u0e01\u0e34한"]
    ['inner', 'inner', 'inner', 'space', 'own', 'own', 'own', 'own', 'own', 'mark', 'inner']
    """
    if character.isspace():
        return "space"
    category = unicodedata.category(character)
    if category[0] == "M" or character == "\u200d":  # the joiner of emoji
        return "mark"
    if category[0] == "P" or ("!" <= character <= "~" and not character.isalnum()):
        return "own"
    point = ord(character)
    return "own" if any(first <= point <= last for first, last in _WITHOUT_SPACES) else "inner"
