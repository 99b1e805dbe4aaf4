"""From paragraphs to rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def with_example_id(rows: Any) -> Any:
    """Return `rows`, a data set or any other sequence of rows, with an `example_id` in each: its own, or its index."""
    if isinstance(rows, Dataset):
        return rows if "example_id" in rows.column_names else rows.add_column("example_id", list(range(len(rows))))
    return rows if len(rows) and hasattr(rows[0], "keys") and "example_id" in rows[0] else NumberedRows(rows)
