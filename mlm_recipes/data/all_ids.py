"""Reads the ids of all rows, many at a time: for a hash that identifies them, or to check them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from ..masking.random_keys import Ints
from ..masking.row_columns import SHARE
from .id_limits import IdLimits, as_ids
from .rows import NumberedRows

#: How many rows are in memory at a time, and how many are read if each may be slow to get.
_BLOCK, _SAMPLE = 10_000, 1_000


def fingerprint(rows: Any, limits: IdLimits | None = None, ids: str = "input_ids") -> str:
    """Return a hash of what determines the tokens of the rows and their masks, 16 hexadecimal digits.

    It covers `input_ids`, or the column named by `ids`, `special_tokens_mask`, `example_id` (by default the row's
    index) and, if the rows bring it, `mlm_probability`. If the rows are neither a `datasets.Dataset` nor a list, it
    covers only a thousand of them, spread evenly, since each may be slow to get.

    Raises: ValueError for a row outside the `limits`, if they are given.

    >>> rows = [{"input_ids": [101, 102], "special_tokens_mask": [1, 1], "example_id": 0}]
    >>> fingerprint(rows) == fingerprint(Dataset.from_list(rows))
    True
    """
    digest = hashlib.blake2b(str(len(rows)).encode(), digest_size=8)
    for columns in _in_columns(rows, limits, ids):
        for numbers in columns:
            digest.update(np.ascontiguousarray(numbers, dtype=np.int64).tobytes())
    return digest.hexdigest()


def check_ids(rows: Any, limits: IdLimits) -> None:
    """Raise ValueError for the first row outside the `limits`; of rows that are slow to get, a thousand are looked at.

    >>> check_ids([{"input_ids": [101, 102]}], IdLimits("eval_dataset", ids=300, positions=128))
    """
    for _ in _in_columns(rows, limits):
        pass


def count_ids(rows: Any, size: int, limits: IdLimits | None = None) -> Ints:
    """Count how often each id occurs in rows of token ids, without special tokens; shape `(size,)`.

    `size` is the number of ids. Of rows that are slow to get, a thousand are counted. Special tokens are those of
    `special_tokens_mask`, if rows have it.

    Raises: ValueError for a row outside the `limits`, if they are given, and for an id of `size` or above.

    >>> count_ids([{"input_ids": [2, 1, 1, 3], "special_tokens_mask": [1, 0, 0, 1]}], size=4).tolist()
    [0, 2, 0, 0]
    """
    limits = limits or IdLimits("rows", ids=size, positions=2**31 - 1)
    counts = np.zeros(size, dtype=np.int64)
    for _, ids, special, _ in _in_columns(rows, limits):
        counts += np.bincount(np.asarray(ids)[np.asarray(special) == 0], minlength=size)
    return counts


def read_completely(rows: Any) -> bool:
    """Tell whether `fingerprint` and `check_ids` read every row."""
    return isinstance(rows.rows if isinstance(rows, NumberedRows) else rows, Dataset | list)


def ids_of(row: Any, limits: IdLimits | None, number: int, name: str = "input_ids") -> Ints:
    """Return the ids of one row, which has them in the column `name` or consists of them.

    Raises: ValueError for anything but a list of whole numbers; `limits` and `number` name the row.

    >>> ids_of({"input_ids": [101, 102]}, None, 0).tolist()
    [101, 102]
    """
    ids = row[name] if isinstance(row, Mapping) else row
    return as_ids(ids, limits.rows if limits else "rows", number)


def _in_columns(rows: Any, limits: IdLimits | None, name: str = "input_ids") -> Iterator[tuple[Any, ...]]:
    """Yield lengths, ids, special tokens, example ids and any shares as flat arrays, a block of rows at a time."""
    rows = rows.rows if isinstance(rows, NumberedRows) else rows
    if isinstance(rows, Dataset):
        first = 0
        for table in rows.with_format("arrow").iter(batch_size=_BLOCK):
            ids = table[name].combine_chunks()
            flat = np.asarray(ids.flatten())
            lengths, chosen = np.asarray(ids.value_lengths()), range(first, first + len(table))
            if limits is not None:
                if ids.null_count:
                    as_ids(None, limits.rows, first + int(np.argmax(np.asarray(ids.is_null()))))
                as_ids(flat[:1], limits.rows, first)
                limits.check(lengths, flat, chosen)
            given = table.column_names
            special = table["special_tokens_mask"].combine_chunks().flatten() if "special_tokens_mask" in given else 0
            numbers = table["example_id"] if "example_id" in given else np.arange(first, first + len(table))
            shares = [_written(table[SHARE].to_pylist())] if SHARE in given else []
            yield lengths, flat, np.broadcast_to(special, flat.shape), numbers, *shares
            first += len(table)
        return
    step = 1 if isinstance(rows, list) else -(-len(rows) // _SAMPLE)
    for first in range(0, len(rows), step * _BLOCK):
        chosen = range(first, min(len(rows), first + step * _BLOCK), step)
        found = [row if isinstance(row, Mapping) else {"input_ids": row} for row in (rows[i] for i in chosen)]
        ids = [ids_of(row, limits, number, name) for number, row in zip(chosen, found, strict=True)]
        special = [
            np.broadcast_to(row.get("special_tokens_mask", 0), len(i)) for row, i in zip(found, ids, strict=True)
        ]
        numbers = [row.get("example_id", index) for index, row in zip(chosen, found, strict=True)]
        joined = np.concatenate(ids)
        if limits is not None:
            limits.check([len(row) for row in ids], joined, chosen)
        shares = [_written([row.get(SHARE) for row in found])] if any(SHARE in row for row in found) else []
        yield [len(row) for row in ids], joined, np.concatenate(special), numbers, *shares


def _written(shares: list[Any]) -> Any:
    """Return values as the bytes of their text, since they may be anything until a collator has checked them."""
    return np.frombuffer(str(shares).encode(), dtype=np.uint8)
