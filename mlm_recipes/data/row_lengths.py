"""The number of tokens in each row of token ids, whatever holds the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from ..masking.random_keys import Ints
from .columns import list_lengths
from .rows import NumberedRows


def row_lengths(rows: Any) -> Ints:
    """Return the number of tokens in each row, int64, shape `(rows,)`; of anything but a Dataset, each row is read.

    >>> row_lengths(Dataset.from_dict({"input_ids": [[1, 2], [3]]})).tolist(), row_lengths([[1, 2], [3]]).tolist()
    ([2, 1], [2, 1])
    """
    if isinstance(rows, NumberedRows):
        rows = rows.rows
    if isinstance(rows, Dataset):
        return list_lengths(rows, "input_ids")
    found = (rows[index] for index in range(len(rows)))
    return np.array([len(row["input_ids"] if isinstance(row, Mapping) else row) for row in found], dtype=np.int64)
