"""Finds where to cut a text that is too long for one row: at the end of a sentence, or of a word."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

# A full stop with the closing marks after it, then white space; in Chinese and Japanese no space follows.
_SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]\u00bb]*\s+|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*\s*|\n+"
)

#: The number of lower bits of an example_id that contain the paragraph's number; the others contain the window's.
_BITS = 40


def cut_points(text: str, tokenizer: Any, room: int) -> list[int]:
    """Return the tokens at which windows of at most `room` tokens begin and end: `[0, ..., number of tokens]`.

    A window ends with the last sentence that ends in its second half; without one, with a word; without that, when it
    is full.

    >>> from mlm_recipes import train_tokenizer
    >>> text = "To be. Or not to be. That is it."
    >>> cut_points(text, train_tokenizer([text] * 2, vocab_size=200), room=5)
    [0, 3, 8, 12]
    """
    if not tokenizer.is_fast:  # it does not report word boundaries: cut when the window is full
        length = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return [*range(0, length, room), length]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    # By the ends of tokens: some tokenizers include the space before a word, so that it begins a character too early.
    token_ends = np.array([end for _, end in found["offset_mapping"]], dtype=np.int64)
    words = np.array([-1 if word is None else word for word in found.word_ids()], dtype=np.int64)
    begins_word = np.flatnonzero(words[1:] != words[:-1]) + 1
    ends = np.array([match.end() for match in _SENTENCE_END.finditer(text)], dtype=np.int64)
    begins_sentence = np.unique(np.searchsorted(token_ends, ends, side="right"))
    points = [0]
    while len(token_ends) - points[-1] > room:
        begin, full = points[-1], points[-1] + room
        points.append(_last(begins_sentence, begin + room // 2, full) or _last(begins_word, begin, full) or full)
    return [*points, len(token_ends)]


def _last(places: Any, after: int, until: int) -> int | None:
    """Return the last of the sorted `places` that is above `after` and at most `until`, or None."""
    index = int(np.searchsorted(places, until, side="right")) - 1
    return int(places[index]) if index >= 0 and places[index] > after else None


def window_ids(example_id: int, windows: int) -> list[int]:
    """Return an id for each window of a paragraph; the first window has the paragraph's id.

    >>> [(paragraph_of(i), window_of(i)) for i in window_ids(7, 3)], window_ids(7, 1)
    ([(7, 0), (7, 1), (7, 2)], [7])
    """
    return [example_id + (window << _BITS) for window in range(windows)]


def paragraph_of(example_id: Any) -> Any:
    """Return the id of the paragraph to which a window belongs; for an array of ids, an array."""
    return example_id & ((1 << _BITS) - 1)


def window_of(example_id: Any) -> Any:
    """Return the number of a window in its paragraph, from 0; for an array of ids, an array."""
    return example_id >> _BITS
