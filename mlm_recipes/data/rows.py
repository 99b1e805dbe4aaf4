"""Turns paragraphs into rows of token ids."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from .columns import column
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
    word_segmenter: str = "none",
) -> Dataset:
    """Return rows of token ids of the column `text`: by `pack` if `packing` is true, otherwise by `tokenize`."""
    if packing:
        return pack(rows, tokenizer, max_length, word_segmenter)
    return tokenize(rows, tokenizer, max_length, long_text, stride, num_proc, word_segmenter)


def tokenize(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 512,
    long_text: str = "split",
    stride: int = 0,
    num_proc: int | None = None,
    word_segmenter: str = "none",
) -> Dataset:
    """Tokenize the column `text`: one row for each paragraph, or several if it is longer than `max_length` tokens.

    Args:
        rows: a data set with `text` and optionally `example_id`; by default, the index of the row.
        tokenizer: one of transformers'.
        max_length, long_text, stride, word_segmenter: as for `mlm_recipes.data.text_to_ids.Encoder`.
        num_proc: how many processes tokenize; by default only this one.

    The result has the columns of `Encoder`. `datasets` caches it on disk, by the text, the tokenizer and these values.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> rows = load_corpus("meditations")["validation"]
    >>> tokenize(rows, train_tokenizer(rows["text"]), max_length=8)[0]["special_tokens_mask"]
    [1, 0, 0, 0, 0, 0, 1]
    """
    encode = Encoder(tokenizer, max_length, long_text, stride, word_segmenter)
    return _map(rows, tokenizer, encode, ["tokenize", max_length, long_text, stride, *_words(encode)], 1000, num_proc)


def pack(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 512, word_segmenter: str = "none"
) -> Dataset:
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
    encoder = encoder_of(tokenizer, max_length, packing=True, word_segmenter=word_segmenter)

    def encode(texts: list[str], _: Any) -> pa.Table:
        return encoder.packed(texts)

    packed = _map(rows, tokenizer, encode, ["pack", max_length, *_words(encoder)], 10_000, None)
    return with_example_id(packed.remove_columns("example_id"))


def encoder_of(
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    packing: bool = False,
    long_text: str = "split",
    stride: int = 0,
    word_segmenter: str = "none",
) -> Encoder:
    """Return what makes the rows of `to_rows`: its `packed` if `packing` is true, otherwise a call.

    Raises: ValueError as `tokenize` and `pack`.
    """
    if not packing:
        return Encoder(tokenizer, max_length, long_text, stride, word_segmenter)
    encoder = Encoder(tokenizer, max_length, word_segmenter=word_segmenter)
    if (len(encoder.before), len(encoder.after)) != (1, 1):
        raise ValueError(
            f"packing: the tokenizer adds {len(encoder.before) + len(encoder.after)} special tokens to a text. "
            "Accepted: two, one before and one after it, as for BERT and RoBERTa. Leave out --packing."
        )
    return encoder


def _words(encoder: Encoder) -> list[str]:
    """Return what determines the words of its rows; nothing without a segmenter, for which earlier keys hold."""
    return [] if encoder.words is None else encoder.words.identity


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


def has_labels(rows: Any) -> bool:
    """Tell whether rows, by the first one, bring labels: they were masked beforehand.

    >>> has_labels([{"input_ids": [103], "labels": [7]}]), has_labels([[101, 7, 102]])
    (True, False)
    """
    return has_column(rows, "labels")


def has_column(rows: Any, name: str) -> bool:
    """Tell whether rows, by the first one, have a column.

    >>> has_column([{"input_ids": [103], "word_ids": [0]}], "word_ids"), has_column([], "word_ids")
    (True, False)
    """
    if isinstance(rows, Dataset):
        return name in rows.column_names
    return len(rows) > 0 and isinstance(rows[0], Mapping) and name in rows[0]


def with_example_id(rows: Any) -> Any:
    """Return `rows`, a data set or any other sequence, with an `example_id` in each row, by default the row's index."""
    if isinstance(rows, Dataset):
        return rows if "example_id" in rows.column_names else rows.add_column("example_id", list(range(len(rows))))
    return rows if len(rows) and hasattr(rows[0], "keys") and "example_id" in rows[0] else NumberedRows(rows)
