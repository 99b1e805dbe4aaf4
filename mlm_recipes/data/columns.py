"""Columns of a data set: their numbers as arrays, and the rows without a value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from datasets import Dataset


def column(rows: Dataset, name: str) -> npt.NDArray[np.int64]:
    """Return a column of numbers as an array, without making a Python object of each number.

    >>> column(Dataset.from_dict({"words": [3, 5]}), "words").tolist()
    [3, 5]
    """
    chunks = [np.asarray(chunk) for chunk in rows.data.column(name).chunks]
    whole = np.concatenate([*chunks, np.empty(0, np.int64)])
    # A selection is taken from the whole column: datasets would gather it piece by piece, a hundred times slower.
    return whole if rows._indices is None else whole[np.asarray(rows._indices.column(0))]


def rows_without(rows: Dataset, name: str) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows whose value in a column is None; Arrow knows whether there are any.

    >>> rows_without(Dataset.from_dict({"text": ["to be", None]}), "text").tolist()
    [1]
    """
    values = rows.data.column(name)
    if not values.null_count:
        return np.empty(0, np.int64)
    missing = np.concatenate([np.asarray(chunk.is_null()) for chunk in values.chunks])
    return np.flatnonzero(missing if rows._indices is None else missing[np.asarray(rows._indices.column(0))])


def flat_column(rows: Dataset, name: str, batch_size: int = 10_000) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the numbers in a column of lists, concatenated, `batch_size` rows at a time.

    >>> [part.tolist() for part in flat_column(Dataset.from_dict({"input_ids": [[1, 2], [3]]}), "input_ids")]
    [[1, 2, 3]]
    """
    for table in rows.select_columns([name]).with_format("arrow").iter(batch_size=batch_size):
        yield np.asarray(table[name].combine_chunks().flatten())


def list_lengths(rows: Dataset, name: str, batch_size: int = 10_000) -> npt.NDArray[np.int64]:
    """Return the length of each row's list, shape `(rows,)`.

    >>> list_lengths(Dataset.from_dict({"input_ids": [[1, 2], [3]]}), "input_ids").tolist()
    [2, 1]
    """
    tables = rows.select_columns([name]).with_format("arrow").iter(batch_size=batch_size)
    found = [np.asarray(table[name].combine_chunks().value_lengths(), dtype=np.int64) for table in tables]
    return np.concatenate([*found, np.empty(0, np.int64)])
