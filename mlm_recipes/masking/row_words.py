"""The words of a batch's tokens: those that a row brings, or those that the tokenizer marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .random_keys import Ints
from .row_columns import Row, token_column
from .word_boundaries import WordBoundaries

#: The column with the number of each token's word, and -1 for a token that is in none.
WORD_IDS = "word_ids"


def row_words(rows: Sequence[Row], flat: Ints, lengths: Ints, boundaries: WordBoundaries) -> Ints:
    """Return the number of each token's word, shape `(tokens,)`, rising from 0 over all rows.

    A row's `word_ids` have one number for each token, the same for neighbours that are one word, and -1, or None as
    tokenizers' `word_ids()` has it, for tokens that are in none. Rows without them have the tokenizer's words.

    Args:
        rows: the batch.
        flat, lengths: its ids, shape `(tokens,)`, and the number of each row's, shape `(batch,)`.
        boundaries: the tokenizer's words.

    Raises: ValueError for `word_ids` that are not one number for each token.

    >>> from mlm_recipes import train_tokenizer
    >>> from mlm_recipes.masking.word_boundaries import word_boundaries
    >>> boundaries = word_boundaries(train_tokenizer(["to be or not to be"] * 2, vocab_size=200))
    >>> rows = [{"input_ids": [101, 114, 115, 102], "word_ids": [None, 0, 0, None]}, {"input_ids": [114, 115]}]
    >>> row_words(rows, np.array([101, 114, 115, 102, 114, 115]), np.array([4, 2]), boundaries).tolist()
    [0, 1, 1, 2, 3, 4]
    """
    given = np.array([row.get(WORD_IDS) is not None for row in rows])
    begins = np.ones(len(flat), dtype=np.bool_) if given.all() else boundaries.begins(flat, lengths)
    if given.any():
        named = [{WORD_IDS: _numbers(row[WORD_IDS])} if each else {} for row, each in zip(rows, given, strict=True)]
        numbers = token_column(named, WORD_IDS, lengths, default=-1)
        changes = (np.diff(numbers, prepend=-1) != 0) | (numbers < 0)
        changes[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        begins = np.where(np.repeat(given, lengths), changes, begins)
    return np.cumsum(begins) - 1


def _numbers(column: object) -> object:
    array = np.asarray(column)
    if array.dtype == object and array.ndim == 1:
        return [-1 if number is None else number for number in array]
    if array.dtype.kind not in "iuO" and array.size:
        raise ValueError(
            f"{WORD_IDS}: received {column!r:.60}. Accepted: one integer for each token, -1 for a token that is in no "
            f'word. Remove the column, to use the tokenizer\'s words: dataset.remove_columns("{WORD_IDS}").'
        )
    return array
