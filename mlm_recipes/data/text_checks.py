"""Checks that every row of a data set has a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from datasets import Dataset

from .columns import rows_without


def require_text(rows: Dataset, name: str) -> Dataset:
    """Return a data set whose column `text` contains a string in each row; `name` is the argument's, for messages.

    Arrow knows how many rows have none, so no text is read.

    Raises: ValueError for a row without a text, by its number, or a column that contains something else.

    >>> require_text(Dataset.from_dict({"text": [3, 5]}), "train_dataset")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: train_dataset: the column `text` contains int64. Accepted: strings. ...
    """
    missing = rows_without(rows, "text")
    if len(missing):
        raise _no_text(name, int(missing[0]), None)
    kind = rows.data.column("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ValueError(
            f"{name}: the column `text` contains {kind}. Accepted: strings. Convert it, or name the column that "
            "contains the text `text`."
        )
    return rows


def only_text(texts: Iterable[Any], name: str, first: int = 0) -> Iterator[str]:
    """Yield `texts`, which are read one by one; raise ValueError at the first that is not a string.

    `first` is the number of the first one, for messages.

    >>> list(only_text(["to be", None], "train_dataset"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: train_dataset: the text of row 1 is None. Accepted: ...
    """
    for number, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            raise _no_text(name, number, text)
        yield text


def _no_text(name: str, row: int, found: object) -> ValueError:
    shown = repr(found) if found is None or isinstance(found, float | int) else type(found).__name__
    return ValueError(
        f"{name}: the text of row {row} is {shown}. Accepted: a string in each row, which may be empty. Remove such "
        'rows: rows.filter(lambda row: row["text"] is not None).'
    )
