"""Characters whose bytes are in several tokens, as byte-level BPE leaves those that its training text had rarely."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .characters import kind_of
from .random_keys import Ints
from .word_flags import ENDS, JOINS, OPEN, OWN, Flags

#: The kinds of characters as numbers; `mark` also stands for bytes without the beginning of their character.
_KINDS = ("space", "own", "mark", "inner")
_SPACE, _OWN, _MARK, _INNER = range(4)

_LAST_POINT = 0x10FFFF


class SplitCharacters:
    """The tokens of a vocabulary that begin or end within a character.

    Args:
        contents: the bytes of each, by its id.

    >>> tokens = SplitCharacters({5: bytes([0xE4, 0xB8]), 6: bytes([0xAD])})  # together a Chinese character
    >>> flags = tokens.flags(np.array([5, 6]), where=np.array([3, 4]), starts=np.array([0]))
    >>> flags.tolist() == [OWN | ENDS, JOINS | ENDS]
    True
    """

    def __init__(self, contents: Mapping[int, bytes]) -> None:
        self._ids = np.array(sorted(contents), dtype=np.int64)
        parts = [contents[index] for index in self._ids.tolist()]
        self._lengths = np.array([len(part) for part in parts], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._bytes = np.frombuffer(b"".join(parts), dtype=np.uint8)

    def flags(self, ids: Ints, where: Ints, starts: Ints) -> Flags:
        """Return the flags of tokens that depend on their neighbours, shape `(tokens,)`.

        A character that is not complete, as where a row is cut off, is taken for the last one that begins so.

        Args:
            ids: the tokens, all of them parts of characters.
            where: their positions in the batch's row, rising.
            starts: the positions in that row at which sequences begin.
        """
        row = np.searchsorted(self._ids, ids)
        lengths = self._lengths[row]
        ends = np.cumsum(lengths)
        firsts = ends - lengths
        data = self._bytes[np.arange(ends[-1]) + np.repeat(self._starts[row] - firsts, lengths)].astype(np.int64)
        # Where a character begins: at a byte that is no continuation, and where the token before is not a neighbour.
        apart = np.isin(where, starts)
        apart[0] = True
        apart[1:] |= np.diff(where) != 1
        leads = (data & 0xC0) != 0x80
        begins = leads.copy()
        begins[firsts[apart]] = True
        heads = np.flatnonzero(begins)
        character = np.cumsum(begins) - 1  # of each byte
        kinds = np.where(leads[heads], _kinds(_points(data, heads)), _MARK)
        # An accent ends as the character before it, unless nothing is before it.
        first_of_run = np.zeros(len(heads), dtype=np.bool_)
        first_of_run[character[firsts[apart]]] = True
        base = np.maximum.accumulate(np.where((kinds != _MARK) | first_of_run, np.arange(len(heads)), 0))
        first = np.where(begins[firsts], kinds[character[firsts]], _MARK)
        last = kinds[base[character[ends - 1]]]
        at_first = np.array([0, OWN, JOINS, 0], dtype=np.uint8)
        at_last = np.array([ENDS, ENDS, OPEN, 0], dtype=np.uint8)
        return at_first[first] | at_last[last]


def _points(data: Ints, heads: Ints) -> Ints:
    """Return the code points of the characters that begin at `heads`, from the bytes of UTF-8."""
    lead = data[heads]
    following = (lead >= 0xC0).astype(np.int64) + (lead >= 0xE0) + (lead >= 0xF0)
    present = np.diff(np.append(heads, len(data))) - 1
    points = lead & np.array([0x7F, 0x1F, 0x0F, 0x07])[following]
    for number in (1, 2, 3):
        byte = data[np.minimum(heads + number, len(data) - 1)]
        byte = np.where(number <= present, byte & 0x3F, 0x3F)
        points = np.where(number <= following, points << 6 | byte, points)
    return np.minimum(points, _LAST_POINT)


def _kinds(points: Ints) -> Ints:
    different, inverse = np.unique(points, return_inverse=True)
    return np.array([_KINDS.index(kind_of(chr(point))) for point in different.tolist()], dtype=np.int64)[inverse]
