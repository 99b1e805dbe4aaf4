"""Copies of paragraphs: which ones count as the same, and a held-out text without them.

A line that a text repeats 3,000 times would otherwise be 3,000 of the paragraphs that are measured: it would decide the
loss, and its interval would be that of one sentence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ..masking.random_keys import Ints, sequence_keys
from .columns import column


class Measured(NamedTuple):
    """The paragraphs of a held-out text that are measured, and how many are not.

    Attributes:
        rows: the first of each group of copies, in the order of the text.
        copies: the number of further copies.
        beyond: the number of distinct paragraphs beyond the most that are measured.
    """

    rows: Dataset
    copies: int
    beyond: int


def copy_keys(digests: Ints, patterns: Ints) -> Ints:
    """Return a key for each paragraph: paragraphs with the same key are copies, int64, shape `(paragraphs,)`.

    Args:
        digests: the same for paragraphs that are equal, ignoring case and white space, shape `(paragraphs,)`.
        patterns: the same for paragraphs that are equal, ignoring numbers too, shape `(paragraphs,)`.

    Paragraphs that differ only in their numbers are copies, such as the numbered pages of a book, unless most patterns
    occur with different numbers. Then the numbers are what the text is about, as in a table or a log.

    >>> copy_keys(np.array([1, 2, 3, 4]), np.array([9, 9, 3, 4])).tolist()
    [9, 9, 3, 4]
    >>> copy_keys(np.array([1, 2, 3, 4]), np.array([9, 9, 8, 8])).tolist()
    [1, 2, 3, 4]
    """
    each, times = np.unique(np.unique(np.stack([patterns, digests]), axis=1)[0], return_counts=True)
    if not len(each) or np.median(times) > 1:
        return digests
    return np.where(np.isin(patterns, each[times > 1]), patterns, digests)


def measured_once(rows: Dataset, at_most: int, seed: int, keys: Ints | None = None) -> Measured:
    """Return the paragraphs of a held-out text that are measured: each once, and at most `at_most`.

    `rows` has the columns `digest` and `pattern` of `mlm_recipes.data.text_cache.read_once`; `keys` are by default
    `copy_keys` of these. Of a text with more distinct paragraphs than `at_most`, those with the lowest keyed hashes are
    measured, which depend only on their text and `seed`, as in the split of a corpus.

    >>> rows = Dataset.from_dict({"text": ["a", "b", "A"], "digest": [7, 8, 7], "pattern": [7, 8, 7]})
    >>> rows, copies, beyond = measured_once(rows, at_most=10, seed=0)
    >>> rows["text"][:], copies, beyond
    (['a', 'b'], 1, 0)
    """
    keys = copy_keys(column(rows, "digest"), column(rows, "pattern")) if keys is None else keys
    distinct, first = np.unique(keys, return_index=True)
    kept = first
    if len(distinct) > at_most:
        kept = first[np.argsort(sequence_keys(seed, 0, distinct), kind="stable")[:at_most]]
    copies, beyond = len(rows) - len(distinct), len(distinct) - len(kept)
    return Measured(rows.select(np.sort(kept)) if copies or beyond else rows, copies, beyond)
