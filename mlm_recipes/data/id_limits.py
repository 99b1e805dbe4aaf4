"""Checks that rows of token ids are what a model can read: whole numbers, not too large, and not too many in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..masking.random_keys import Ints


@dataclass(frozen=True)
class IdLimits:
    """What a model accepts in a row; `rows` is the argument's name, for messages.

    Attributes:
        ids: the number of ids that it has embeddings for.
        positions: the most tokens in a row.
    """

    rows: str
    ids: int
    positions: int

    def check(self, lengths: Any, flat: Any, numbers: Sequence[int]) -> None:
        """Raise ValueError for the first row that does not fit.

        Args:
            lengths: the tokens of each row, shape `(rows,)`.
            flat: their ids, one row after the other, shape `(tokens,)`.
            numbers: the rows' numbers, for messages.

        >>> limits = IdLimits("train_dataset", ids=300, positions=128)
        >>> limits.check([1, 2], np.array([5, 5, 301]), range(2))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: train_dataset: row 1 has the id 301. Accepted: 0 to 299, the ids that the model has embeddings ...
        """
        lengths = np.asarray(lengths)
        if len(lengths) and int(lengths.max()) > self.positions:
            row = int(np.argmax(lengths > self.positions))
            raise ValueError(
                f"{self.rows}: row {numbers[row]} has {int(lengths[row])} tokens. Accepted: at most {self.positions}, "
                "the model's positions. Truncate when tokenizing (truncation=True, "
                f"max_length={self.positions}), or pass rows of `text`."
            )
        if len(flat) and not (int(flat.min()) >= 0 and int(flat.max()) < self.ids):
            token = int(np.argmax((flat < 0) | (flat >= self.ids)))
            row = int(np.searchsorted(np.cumsum(lengths), token, side="right"))
            raise ValueError(
                f"{self.rows}: row {numbers[row]} has the id {int(flat[token])}. Accepted: 0 to {self.ids - 1}, the "
                "ids that the model has embeddings for. Tokenize the text with the model's own tokenizer, or pass rows "
                "of `text`."
            )


def as_ids(row: Any, rows: str, number: int) -> Ints:
    """Return a row's ids as an array, int64, shape `(tokens,)`; `rows` and `number` are for messages.

    Raises: ValueError for anything but a list of whole numbers.

    >>> as_ids([101, 7, 102], "train_dataset", 0).tolist()
    [101, 7, 102]
    """
    try:
        ids = np.asarray(row)
    except ValueError:  # lists of different lengths
        ids = np.empty((0, 0))
    if ids.ndim != 1 or (ids.dtype.kind not in "iub" and ids.size):
        found = f"have the shape {ids.shape}" if ids.ndim != 1 else f"contain {ids.tolist()[0]!r}"
        raise ValueError(
            f"{rows}: the ids of row {number} {'are None' if row is None else found}. Accepted: one list of whole "
            "numbers for each row. Tokenize texts without return_tensors, or pass rows of `text`."
        )
    return ids.astype(np.int64, copy=False)
