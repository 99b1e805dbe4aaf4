"""Turns paragraphs into rows of token ids."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from ..masking.random_keys import Ints
from .columns import column
from .id_limits import IdLimits, as_ids
from .text_checks import require_text
from .text_to_ids import Encoder
from .windows import paragraph_of, window_of

#: Part of every key, so that rows made by an earlier version of this code are not used.
_VERSION = 1

#: From this number of rows on, a progress bar is shown.
_SHOWN = 20_000


def to_rows(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    packing: bool = False,
    long_text: str = "split",
    stride: int = 0,
    num_proc: int | None = None,
) -> Dataset:
    """Return rows of token ids of the column `text`: by `pack` if `packing` is true, otherwise by `tokenize`."""
    if packing:
        return pack(rows, tokenizer, max_length)
    return tokenize(rows, tokenizer, max_length, long_text, stride, num_proc)


def tokenize(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 512,
    long_text: str = "split",
    stride: int = 0,
    num_proc: int | None = None,
) -> Dataset:
    """Tokenize the column `text`: one row for each paragraph, or several if it is longer than `max_length` tokens.

    Args:
        rows: a data set with `text` and optionally `example_id`; by default, the index of the row.
        tokenizer: one of transformers'.
        max_length, long_text, stride: as for `mlm_recipes.data.text_to_ids.Encoder`.
        num_proc: how many processes tokenize; by default only this one.

    The result has the columns of `Encoder`. `datasets` caches it on disk, by the text, the tokenizer and these values.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> rows = load_corpus("meditations")["validation"]
    >>> tokenize(rows, train_tokenizer(rows["text"]), max_length=8)[0]["special_tokens_mask"]
    [1, 0, 0, 0, 0, 0, 1]
    """
    encode = Encoder(tokenizer, max_length, long_text, stride)
    return _map(rows, tokenizer, encode, ["tokenize", max_length, long_text, stride], 1000, num_proc)


def pack(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> Dataset:
    """Tokenize the column `text`, join the paragraphs end to end, and cut them into rows of `max_length` tokens.

    There is a [SEP] between two paragraphs, and each row begins with [CLS] and ends with [SEP], like a single paragraph
    (FULL-SENTENCES in RoBERTa; Liu et al. 2019, https://arxiv.org/abs/1907.11692). Nothing is cut off: a long paragraph
    continues in the next row. Paragraphs are joined 10,000 at a time; the last row of each 10,000 may be short.

    Returns a data set with the columns of `tokenize`; `example_id` is the row's index.

    Raises: ValueError for a tokenizer that does not add one special token before a text and one after it.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> rows = load_corpus("meditations")["validation"]
    >>> packed = pack(rows, train_tokenizer(rows["text"]), max_length=128)
    >>> len(rows), len(packed), len(packed[0]["input_ids"]), packed[0]["special_tokens_mask"][:3]
    (54, 51, 128, [1, 0, 0])
    """
    encoder = Encoder(tokenizer, max_length)
    if (len(encoder.before), len(encoder.after)) != (1, 1):
        raise ValueError(
            f"packing: the tokenizer adds {len(encoder.before) + len(encoder.after)} special tokens to a text. "
            "Accepted: two, one before and one after it, as for BERT and RoBERTa. Leave out --packing."
        )

    def encode(texts: list[str], _: Any) -> pa.Table:
        return encoder.packed(texts)

    packed = _map(rows, tokenizer, encode, ["pack", max_length], 10_000, None)
    return with_example_id(packed.remove_columns("example_id"))


def _map(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    encode: Callable[[list[str], list[int]], pa.Table],
    values: list[Any],
    batch_size: int,
    num_proc: int | None,
) -> Dataset:
    """Map `encode` over texts and ids, a table at a time, or return the cached result of an earlier process."""
    rows = with_example_id(require_text(rows, "rows")).select_columns(["text", "example_id"])
    if len(rows) and column(rows, "example_id").max() > paragraph_of(-1):
        raise ValueError(
            f"example_id: received {column(rows, 'example_id').max()}. Accepted: at most {paragraph_of(-1)}, since "
            "the higher bits number the rows of a long paragraph. Leave out the column: rows are then numbered."
        )
    # datasets would hash the tokenizer including its caches, and therefore never find the same key again.
    key = Hasher.hash([_VERSION, rows._fingerprint, _identity(tokenizer), values])
    shown = len(rows) > _SHOWN and sys.stderr.isatty()
    was_shown = datasets.is_progress_bar_enabled()
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    try:
        return (
            rows.with_format("arrow")
            .map(
                lambda table: encode(table["text"].to_pylist(), table["example_id"].to_pylist()),
                batched=True,
                batch_size=batch_size,
                remove_columns=["text", "example_id"],
                num_proc=num_proc,
                new_fingerprint=key,
                desc="Packing" if values[0] == "pack" else "Tokenizing",
            )
            .with_format(None)
        )
    finally:
        (datasets.enable_progress_bars if was_shown else datasets.disable_progress_bars)()


def _identity(tokenizer: Any) -> Any:
    """Return plain data that determines which ids a tokenizer returns."""
    if not tokenizer.is_fast:
        return [type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.init_kwargs]
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return [state | {"truncation": None, "padding": None}, tokenizer.truncation_side]  # these depend on the last call


def lost_and_split(rows: Dataset) -> dict[str, int]:
    """Count the paragraphs that were cut off, the tokens that were lost, the paragraphs that were split, and the rows.

    >>> lost_and_split(Dataset.from_dict({"cut_off": [0, 3], "example_id": [0, 1]}))
    {'cut_off_paragraphs': 1, 'cut_off_tokens': 3, 'split_paragraphs': 0, 'rows': 2}
    """
    cut_off, window = column(rows, "cut_off"), window_of(column(rows, "example_id"))
    return {
        "cut_off_paragraphs": int((cut_off > 0).sum()),
        "cut_off_tokens": int(cut_off.sum()),
        "split_paragraphs": int((window == 1).sum()),
        "rows": len(rows),
    }


class NumberedRows(torch.utils.data.Dataset[dict[str, Any]]):
    """A sequence of rows, each with its index as `example_id`.

    >>> NumberedRows([{"input_ids": [101, 102]}])[0]
    {'input_ids': [101, 102], 'example_id': 0}
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return {**(row if hasattr(row, "keys") else {"input_ids": row}), "example_id": index}


class RowsOfEpoch(torch.utils.data.Dataset[Any]):
    """Rows by the keys of `mlm_recipes.training.example_order.EpochSampler`, each with its `epoch` for the collator.

    The key contains the epoch, because nothing else reaches a data set in the memory of a worker process. A key of -1
    gives None: no example. With `plain`, rows have only the columns of these names. With `limits`, each row is checked
    when it is read.

    >>> rows = RowsOfEpoch([{"input_ids": [101, 7, 102], "example_id": 0}, {"input_ids": [101, 102], "example_id": 1}])
    >>> rows[3 * 2 + 1]
    {'input_ids': [101, 102], 'example_id': 1, 'epoch': 3}
    """

    def __init__(
        self, rows: Sequence[Any], plain: Container[str] | None = None, limits: IdLimits | None = None
    ) -> None:
        self.rows = rows
        self.plain = plain
        self.limits = limits

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Any]:
        """Return the rows of a batch at once, which is much faster for a `datasets.Dataset`."""
        pairs = [divmod(key, len(self.rows)) for key in keys if key >= 0]
        indices = [index for _, index in pairs]
        rows = self.rows.__getitems__(indices) if isinstance(self.rows, Dataset) else [self.rows[i] for i in indices]
        if self.limits is not None:
            for index, row in zip(indices, rows, strict=True):
                ids = _ids(row, self.limits, index)
                self.limits.check([len(ids)], ids, [index])
        if self.plain is not None:
            return [only_columns(row, self.plain) for row in rows]
        found = iter([{**row, "epoch": epoch} for row, (epoch, _) in zip(rows, pairs, strict=True)])
        return [next(found) if key >= 0 else None for key in keys]


class AllBut(Container[str]):
    """All names but these.

    >>> "text" in AllBut("epoch"), "epoch" in AllBut("epoch")
    (True, False)
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def only_columns(row: Any, names: Container[str]) -> Any:
    """Return a row with only the columns of these names; a list of ids as it is.

    >>> only_columns({"input_ids": [5], "text": "to"}, ["input_ids"]), only_columns([5], [])
    ({'input_ids': [5]}, [5])
    """
    return {name: row[name] for name in row if name in names} if isinstance(row, Mapping) else row


def has_labels(rows: Any) -> bool:
    """Tell whether rows, by the first one, bring labels: they were masked beforehand.

    >>> has_labels([{"input_ids": [103], "labels": [7]}]), has_labels([[101, 7, 102]])
    (True, False)
    """
    if isinstance(rows, Dataset):
        return "labels" in rows.column_names
    return len(rows) > 0 and isinstance(rows[0], Mapping) and "labels" in rows[0]


def fingerprint(rows: Any, at_most: int = 1000, limits: IdLimits | None = None, ids: str = "input_ids") -> str:
    """Return a hash of what determines the tokens of the rows and their masks, 16 hexadecimal digits.

    It covers `input_ids`, or the column named by `ids`, `special_tokens_mask` and `example_id` (by default the row's
    index). If the rows are neither a `datasets.Dataset` nor a list, it covers only `at_most` of them, spread evenly,
    since each may be slow to get.

    Raises: ValueError for a row outside the `limits`, if they are given.

    >>> rows = [{"input_ids": [101, 102], "special_tokens_mask": [1, 1], "example_id": 0}]
    >>> fingerprint(rows) == fingerprint(Dataset.from_list(rows))
    True
    """
    digest = hashlib.blake2b(str(len(rows)).encode(), digest_size=8)
    for columns in _in_columns(rows, at_most, limits, ids):
        for numbers in columns:
            digest.update(np.ascontiguousarray(numbers, dtype=np.int64).tobytes())
    return digest.hexdigest()


def check_ids(rows: Any, limits: IdLimits, at_most: int = 1000) -> None:
    """Raise ValueError for the first row outside the `limits`; of rows that are slow to get, `at_most` are looked at.

    >>> check_ids([{"input_ids": [101, 102]}], IdLimits("eval_dataset", ids=300, positions=128))
    """
    for _ in _in_columns(rows, at_most, limits):
        pass


def read_completely(rows: Any) -> bool:
    """Tell whether `fingerprint` and `check_ids` read every row."""
    return isinstance(rows.rows if isinstance(rows, NumberedRows) else rows, Dataset | list)


def _ids(row: Any, limits: IdLimits | None, number: int, name: str = "input_ids") -> Ints:
    ids = row[name] if isinstance(row, Mapping) else row
    return as_ids(ids, limits.rows if limits else "rows", number)


def _in_columns(
    rows: Any, at_most: int, limits: IdLimits | None, name: str = "input_ids", size: int = 10_000
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield lengths, ids, special tokens and example ids as flat arrays, of `size` rows at a time."""
    rows = rows.rows if isinstance(rows, NumberedRows) else rows
    if isinstance(rows, Dataset):
        first = 0
        for table in rows.with_format("arrow").iter(batch_size=size):
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
            yield lengths, flat, np.broadcast_to(special, flat.shape), numbers
            first += len(table)
        return
    step = 1 if isinstance(rows, list) else -(-len(rows) // at_most)
    for first in range(0, len(rows), step * size):
        chosen = range(first, min(len(rows), first + step * size), step)
        found = [row if isinstance(row, Mapping) else {"input_ids": row} for row in (rows[i] for i in chosen)]
        ids = [_ids(row, limits, number, name) for number, row in zip(chosen, found, strict=True)]
        special = [
            np.broadcast_to(row.get("special_tokens_mask", 0), len(i)) for row, i in zip(found, ids, strict=True)
        ]
        numbers = [row.get("example_id", index) for index, row in zip(chosen, found, strict=True)]
        joined = np.concatenate(ids)
        if limits is not None:
            limits.check([len(row) for row in ids], joined, chosen)
        yield [len(row) for row in ids], joined, np.concatenate(special), numbers


def with_example_id(rows: Any) -> Any:
    """Return `rows`, a data set or any other sequence, with an `example_id` in each row, by default the row's index."""
    if isinstance(rows, Dataset):
        return rows if "example_id" in rows.column_names else rows.add_column("example_id", list(range(len(rows))))
    return rows if len(rows) and hasattr(rows[0], "keys") and "example_id" in rows[0] else NumberedRows(rows)
