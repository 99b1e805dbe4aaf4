"""A held-out text without copies of its paragraphs.

A line that a text repeats 3,000 times would otherwise be 3,000 of the paragraphs that are measured: it would decide the
loss, and its interval would be that of one sentence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ..masking.random_keys import sequence_keys
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


def measured_once(rows: Dataset, at_most: int, seed: int) -> Measured:
    """Return the paragraphs of a held-out text that are measured: each once, and at most `at_most`.

    Copies are equal, ignoring case and white space: they have the same `digest`, a column that `rows` has from
    `mlm_recipes.data.text_cache.read_once`. Of a text with more distinct paragraphs than `at_most`, those with the
    lowest keyed hashes are measured, which depend only on their text and `seed`, as in the split of a corpus.

    >>> rows = Dataset.from_dict({"text": ["a", "b", "A"], "digest": [7, 8, 7]})
    >>> rows, copies, beyond = measured_once(rows, at_most=10, seed=0)
    >>> rows["text"][:], copies, beyond
    (['a', 'b'], 1, 0)
    """
    distinct, first = np.unique(column(rows, "digest"), return_index=True)
    kept = first
    if len(distinct) > at_most:
        kept = first[np.argsort(sequence_keys(seed, 0, distinct), kind="stable")[:at_most]]
    copies, beyond = len(rows) - len(distinct), len(distinct) - len(kept)
    return Measured(rows.select(np.sort(kept)) if copies or beyond else rows, copies, beyond)
