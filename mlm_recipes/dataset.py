"""From paragraphs to rows of token ids."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def tokenize(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> Dataset:
    """Tokenize the column `text`, a row a paragraph, cutting off what lies beyond `max_length` tokens.

    Returns a data set with `input_ids` ([CLS] and [SEP] included), `special_tokens_mask`, `cut_off` (how many tokens
    the row lost) and `example_id` (kept, or else the row's index); `datasets` caches it.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> rows = load_corpus("meditations")["validation"]
    >>> tokenize(rows, train_tokenizer(rows["text"]), max_length=8)[0]["special_tokens_mask"]
    [1, 0, 0, 0, 0, 0, 0, 1]
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(batch["text"], truncation=True, max_length=max_length, return_special_tokens_mask=True)
        cut_off = [
            len(tokenizer(text, verbose=False)["input_ids"]) - max_length if len(ids) == max_length else 0
            for text, ids in zip(batch["text"], encoded["input_ids"], strict=True)
        ]
        return {name: encoded[name] for name in ("input_ids", "special_tokens_mask")} | {"cut_off": cut_off}

    unwanted = [column for column in rows.column_names if column != "example_id"]
    return with_example_id(rows.map(encode, batched=True, remove_columns=unwanted, desc="Tokenizing"))


def to_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, packing: bool) -> Dataset:
    """Return what a model is given of the column `text`: with `packing` the rows of `pack`, else those of `tokenize`."""
    return (pack if packing else tokenize)(rows, tokenizer, max_length)


def pack(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> Dataset:
    """Tokenize the column `text`, join the paragraphs end to end, and cut them into rows of `max_length` tokens.

    A [SEP] stands between two paragraphs, and each row begins with [CLS] and ends with [SEP], as a paragraph by itself
    does (the FULL-SENTENCES of RoBERTa; Liu et al. 2019, https://arxiv.org/abs/1907.11692). Nothing is cut off: a long
    paragraph goes on in the next row. Of every 10,000 paragraphs the last row may be short.

    Returns a data set with the columns of `tokenize`; `example_id` is the row's index.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> rows = load_corpus("meditations")["validation"]
    >>> packed = pack(rows, train_tokenizer(rows["text"]), max_length=128)
    >>> len(rows), len(packed), len(packed[0]["input_ids"]), packed[0]["special_tokens_mask"][:3]
    (54, 48, 128, [1, 0, 0])
    """
    cls, sep = _first_and_last(tokenizer)
    room = max_length - 2
    if room < 1:
        raise ValueError(
            f"max_length: received {max_length} with packing. Accepted: 3 or more, since two are special tokens."
        )

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = tokenizer(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
        joined = np.fromiter(itertools.chain.from_iterable([*ids, sep] for ids in found), dtype=np.int32)[:-1]
        cut = [joined[start : start + room].tolist() for start in range(0, len(joined), room)]
        ids = [[cls, *part, sep] for part in cut]
        return {
            "input_ids": ids,
            "special_tokens_mask": [[1, *(int(token == sep) for token in part), 1] for part in cut],
            "cut_off": [0] * len(ids),
        }

    packed = rows.map(encode, batched=True, batch_size=10_000, remove_columns=rows.column_names, desc="Packing")
    return with_example_id(packed)


def _first_and_last(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Return what the tokenizer sets before and after a text."""
    ends = tokenizer("")["input_ids"]
    if len(ends) != 2:
        raise ValueError(
            f"packing: the tokenizer sets {len(ends)} special tokens around a text. Accepted: two, one before and one "
            "after it, as BERT's and RoBERTa's do. Leave --packing out."
        )
    return ends[0], ends[1]


class NumberedRows(torch.utils.data.Dataset[dict[str, Any]]):
    """A sequence of rows in which each row carries its index as `example_id`.

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
    """Rows by the keys of `mlm_recipes.sampler.EpochSampler`: each row carries its `epoch` into the collator.

    The key says the epoch, because nothing else reaches a data set that lies in the memory of worker processes. A key
    of -1 gives None, no example. With `plain`, for a collator that is not ours, rows come without what only ours knows.

    >>> rows = RowsOfEpoch([{"input_ids": [101, 7, 102], "example_id": 0}, {"input_ids": [101, 102], "example_id": 1}])
    >>> rows[3 * 2 + 1]
    {'input_ids': [101, 102], 'example_id': 1, 'epoch': 3}
    """

    def __init__(self, rows: Sequence[Any], plain: bool = False) -> None:
        self.rows = rows
        self.plain = plain

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Any]:
        """Return the rows of a batch at once, which spares a data set most of its work."""
        pairs = [divmod(key, len(self.rows)) for key in keys if key >= 0]
        indices = [index for _, index in pairs]
        rows = self.rows.__getitems__(indices) if isinstance(self.rows, Dataset) else [self.rows[i] for i in indices]
        if self.plain:
            return [_without_ours(row) for row in rows]
        found = iter([{**row, "epoch": epoch} for row, (epoch, _) in zip(rows, pairs, strict=True)])
        return [next(found) if key >= 0 else None for key in keys]


def _without_ours(row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    return {name: value for name, value in row.items() if name not in ("cut_off", "example_id")}


def fingerprint(rows: Any, at_most: int = 1000) -> str:
    """Return a hash of what decides which tokens a row has and which are masked, 16 hexadecimal digits.

    That is `input_ids`, `special_tokens_mask` and `example_id` (else the row's index). Of rows that are neither a
    `datasets.Dataset` nor a list it takes `at_most`, spread evenly: each may be costly.

    >>> rows = [{"input_ids": [101, 102], "special_tokens_mask": [1, 1], "example_id": 0}]
    >>> fingerprint(rows) == fingerprint(Dataset.from_list(rows))
    True
    """
    digest = hashlib.blake2b(str(len(rows)).encode(), digest_size=8)
    for lengths, ids, special, example_ids in _in_columns(rows, at_most):
        for column in (lengths, ids, special, example_ids):
            digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _in_columns(rows: Any, at_most: int, size: int = 10_000) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield lengths, ids, special tokens and example ids of `size` rows after the other, flat."""
    rows = rows.rows if isinstance(rows, NumberedRows) else rows
    if isinstance(rows, Dataset):
        first = 0
        for table in rows.with_format("arrow").iter(batch_size=size):
            ids = table["input_ids"].combine_chunks()
            flat = np.asarray(ids.flatten())
            given = table.column_names
            special = table["special_tokens_mask"].combine_chunks().flatten() if "special_tokens_mask" in given else 0
            numbers = table["example_id"] if "example_id" in given else np.arange(first, first + len(table))
            yield np.asarray(ids.value_lengths()), flat, np.broadcast_to(special, flat.shape), numbers
            first += len(table)
        return
    step = 1 if isinstance(rows, list) else -(-len(rows) // at_most)
    for first in range(0, len(rows), step * size):
        chosen = range(first, min(len(rows), first + step * size), step)
        found = [row if isinstance(row, Mapping) else {"input_ids": row} for row in (rows[i] for i in chosen)]
        ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in found]
        special = [
            np.broadcast_to(row.get("special_tokens_mask", 0), len(i)) for row, i in zip(found, ids, strict=True)
        ]
        numbers = [row.get("example_id", index) for index, row in zip(chosen, found, strict=True)]
        yield [len(row) for row in ids], np.concatenate(ids), np.concatenate(special), numbers


def with_example_id(rows: Any) -> Any:
    """Return `rows`, a data set or any other sequence of rows, with an `example_id` in each: its own, or its index."""
    if isinstance(rows, Dataset):
        return rows if "example_id" in rows.column_names else rows.add_column("example_id", list(range(len(rows))))
    return rows if len(rows) and hasattr(rows[0], "keys") and "example_id" in rows[0] else NumberedRows(rows)
