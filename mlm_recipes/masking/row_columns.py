"""The rows that a collator accepts, and their columns as flat arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .batch_layout import IGNORE_INDEX
from .random_keys import Bools, Ints

Row = Mapping[str, Any]

#: Columns that the collator itself reads, and those of `mlm_recipes.data` that nothing else needs.
OURS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "labels", "example_id", "epoch"}
    | {"cut_off", "offset_mapping", "word_ids"}
)

#: From this number of tokens on, labels that are all equal to the ids cannot be chance.
_MANY = 128


def as_rows(examples: Any) -> list[Row]:
    """Return the examples that are not None as mappings with `input_ids`; one mapping alone is one example.

    Raises: ValueError for something else, such as text.

    >>> as_rows([[101, 7, 102], None, {"input_ids": [101, 102]}])
    [{'input_ids': [101, 7, 102]}, {'input_ids': [101, 102]}]
    """
    if isinstance(examples, Mapping):
        examples = [examples]
    if isinstance(examples, str | bytes) or not len(examples):
        raise _not_rows(examples)
    rows = [row if isinstance(row, Mapping) else {"input_ids": row} for row in examples if row is not None]
    for row in rows:
        if "input_ids" not in row:
            raise ValueError(
                f"examples: received a row with the columns {', '.join(map(str, row))}. Accepted: rows with input_ids. "
                "Tokenize the text first: tokenizer(text)."
            )
        if isinstance(row["input_ids"], str | bytes):
            raise _not_rows(row["input_ids"])
    return rows


def _not_rows(found: Any) -> ValueError:
    return ValueError(
        f"examples: received {found!r:.60}. Accepted: a list of rows of token ids, such as "
        "[tokenizer(text) for text in texts]. Tokenize the text first."
    )


def flat_ids(rows: Sequence[Row]) -> tuple[Ints, Ints]:
    """Return all rows' ids in one array, shape `(tokens,)`, and the number of each row's, shape `(batch,)`.

    Raises: ValueError for ids that are not one list of integers per row.

    >>> [array.tolist() for array in flat_ids([{"input_ids": [101, 7]}, {"input_ids": [102]}])]
    [[101, 7, 102], [2, 1]]
    """
    arrays = []
    for row in rows:
        try:
            array = np.asarray(row["input_ids"])
        except ValueError:  # lists of different lengths, from several texts that were tokenized together
            array = np.array(row["input_ids"], dtype=object)
        arrays.append(array)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(
                f"input_ids: received an array of shape {array.shape} and type {array.dtype} in a row. Accepted: one "
                "list of integers for each row. Tokenize each text by itself, without return_tensors, or pass the rows "
                "of the array."
            )
    return np.concatenate(arrays).astype(np.int64, copy=False), np.array([len(array) for array in arrays])


def token_column(rows: Sequence[Row], name: str, lengths: Ints, default: int) -> Ints:
    """Return a column with one integer per token, shape `(tokens,)`; rows without it have `default`.

    Raises: ValueError for a row with another number of values than tokens.

    >>> token_column([{"a": [1, 0]}, {}], "a", np.array([2, 1]), default=5).tolist()
    [1, 0, 5]
    """
    if not any(name in row for row in rows):
        return np.full(int(lengths.sum()), default, dtype=np.int64)
    values = []
    for row, length in zip(rows, lengths.tolist(), strict=True):
        value = np.asarray(row[name], dtype=np.int64) if name in row else np.full(length, default, dtype=np.int64)
        if value.shape != (length,):
            raise ValueError(
                f"{name}: received an array of shape {value.shape} for a row of {length} tokens. Accepted: one number "
                "for each token. Remove the column, or make it as long as input_ids."
            )
        values.append(value)
    return np.concatenate(values)


def own_labels(rows: Sequence[Row], flat: Ints, lengths: Ints, maskable: Bools) -> Ints | None:
    """Return the labels that the rows bring, shape `(tokens,)`, or None if they bring none.

    Raises: ValueError if only some rows have labels, or if nothing is masked: they are a copy of the ids.

    >>> rows = [{"input_ids": [101, 103, 102], "labels": [-100, 7, -100]}]
    >>> own_labels(rows, *flat_ids(rows), maskable=np.array([False, False, False])).tolist()
    [-100, 7, -100]
    """
    having = sum(row.get("labels") is not None for row in rows)
    if not having:
        return None
    if having < len(rows):
        raise ValueError(
            f"labels: received {having} rows with labels and {len(rows) - having} without. Accepted: labels in all "
            "rows, which are then used as they are, or in none, which are then masked here. Separate them, or remove "
            "the column."
        )
    labels = token_column(rows, "labels", lengths, IGNORE_INDEX)
    if maskable.sum() >= _MANY and (labels[maskable] == flat[maskable]).all():
        raise ValueError(
            "labels: received rows whose labels are a copy of their ids, so there is nothing to predict. Accepted: "
            "rows that were masked beforehand, with labels at the masked tokens; or rows without labels, which are "
            'masked here. Remove the column: dataset.remove_columns("labels").'
        )
    return labels


def other_columns(rows: Sequence[Row], wanted: Callable[[str], bool]) -> dict[str, list[Any]]:
    """Return the wanted columns that are not the collator's own, as arrays, one for each row.

    Raises: ValueError for a column that not every row has, or that is not of numbers.

    >>> other_columns([{"input_ids": [5], "score": 0.5}], lambda name: True)
    {'score': [array(0.5)]}
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in OURS and wanted(name))
    found = {}
    for name in names:
        having = [row[name] for row in rows if name in row]
        if len(having) < len(rows):
            raise ValueError(
                f"{name}: {len(having)} of the batch's {len(rows)} rows have this column. Accepted: a column that all "
                f'rows have. Add it to the others, or remove it: dataset.remove_columns("{name}").'
            )
        try:
            arrays = [np.asarray(value) for value in having]
        except ValueError:  # lists of different lengths
            arrays = []
        if not arrays or any(array.dtype.kind not in "biuf" for array in arrays):
            raise ValueError(
                f"{name}: received {having[0]!r:.60}, which cannot become a tensor. Accepted: numbers, or lists of "
                f'numbers of one shape. Remove the column: dataset.remove_columns("{name}").'
            )
        found[name] = arrays
    return found


def per_token(arrays: Sequence[Any], lengths: Ints) -> bool:
    """Tell whether each row's array has one entry for each of its tokens.

    >>> per_token([np.zeros((2, 4)), np.zeros((3, 4))], np.array([2, 3])), per_token([np.zeros(())], np.array([2]))
    (True, False)
    """
    return all(array.ndim > 0 and len(array) == length for array, length in zip(arrays, lengths, strict=True))


def as_tensor(array: Any) -> torch.Tensor:
    """Return an array as a tensor: integers as int64, floating-point numbers as float32, bool as bool."""
    kind = array.dtype.kind
    return torch.from_numpy(np.ascontiguousarray(array, dtype={"f": np.float32, "b": np.bool_}.get(kind, np.int64)))


def stacked(name: str, arrays: Sequence[Any]) -> torch.Tensor:
    """Return one tensor, shape `(batch, ...)`.

    Raises: ValueError if the arrays are not all of one shape.

    >>> stacked("score", [np.asarray(0.5), np.asarray(2.0)])
    tensor([0.5000, 2.0000])
    """
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: received the shapes {', '.join(map(str, sorted(shapes)))} in one batch. Accepted: the same shape "
            "in all rows, or one entry for each token. Pad the column, or remove it: "
            f'dataset.remove_columns("{name}").'
        )
    return as_tensor(np.stack(arrays))
