"""What a token says about the borders of words, as bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .characters import kind_of

Flags = npt.NDArray[np.uint8]

#: A word begins with it, whatever is before it.
BEGINS = 1
#: Its first character is a word by itself, such as a comma or a Chinese character.
OWN = 2
#: A word ends with it, whatever is after it: its last character is a word by itself, or white space.
ENDS = 4
#: It is only white space, which belongs to the word after it.
BLANK = 8
#: It goes on with the character before it: it begins with an accent, or with the rest of a character's bytes.
JOINS = 16
#: It is only accents, so that it ends a word if the token before it does.
OPEN = 32
#: It is not whole characters, so that its other flags depend on its neighbours.
SPLIT = 64


def flags_of(content: bytes) -> int:
    """Return the flags that follow from the text of a token, in UTF-8, in which white space is as in the text.

    >>> flags_of(b" to") == BEGINS, flags_of(b"to") == 0, flags_of(b", ") == OWN | ENDS
    (True, True, True)
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return SPLIT | (BEGINS if content[:1].isspace() else 0)
    if not text:
        return 0
    flags = {"space": BEGINS, "own": OWN, "mark": JOINS, "inner": 0}[kind_of(text[0])]
    if text.isspace():
        return flags | BLANK
    last = next((kind for character in reversed(text) if (kind := kind_of(character)) != "mark"), None)
    return flags | {"space": ENDS, "own": ENDS, "inner": 0, None: OPEN}[last]
