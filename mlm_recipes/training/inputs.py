"""The training data that MLMTrainer accepts: text, rows or a stream, checked and converted to one form."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForLanguageModeling

from ..data.columns import list_lengths
from ..data.mixed_rows import MixedRows
from ..data.prepared_rows import PreparedRows
from ..data.rows import NumberedRows, has_labels, with_example_id
from ..data.streams import RowStream, TextStream
from ..data.text_checks import only_text, require_text
from ..masking.row_columns import OURS
from .checks.config_checks import check
from .config import MLMConfig
from .distributed.processes import from_main

logger = logging.getLogger(__name__)


def check_stream(train_dataset: Any, args: MLMConfig) -> None:
    """Raise ValueError if the data set and `MLMConfig(streaming=...)` do not match."""
    if train_dataset is None:
        return
    if isinstance(train_dataset, TextStream) != args.streaming:
        accepted = "a TextStream with streaming=True" if args.streaming else "rows; a TextStream with streaming=True"
        raise ValueError(
            f"train_dataset: received {type(train_dataset).__name__} with streaming {args.streaming}. Accepted: "
            f"{accepted}. Make it TextStream(read), where read() yields paragraphs, or change streaming."
        )
    if not args.streaming:
        return
    if args.max_steps < 1:
        raise ValueError(
            f"max_steps: received {args.max_steps} with streaming. Accepted: 1 or more, since the length of a "
            "stream is unknown and the learning-rate schedule needs the number of steps. Pass --max_steps 1000."
        )
    for name in ("eval_strategy", "logging_strategy", "save_strategy"):
        if getattr(args, name) == "epoch":  # for Trainer the whole run is one epoch: it would save once, at the end
            raise ValueError(
                f"{name}: received 'epoch' with streaming. Accepted: steps or no, since it is unknown where an epoch "
                f"of a stream ends. Pass --{name} steps."
            )


def from_iterable(rows: Any, args: MLMConfig) -> tuple[Any, MLMConfig]:
    """Return an IterableDataset, of datasets or torch, as a stream, with a config that has `streaming`; else no change.

    It may yield strings, rows with `text`, rows with `input_ids`, or lists of ids; the first one decides.

    Raises: ValueError if it yields nothing or something else, or is only this process's part of a data set.
    """
    if not isinstance(rows, torch.utils.data.IterableDataset | IterableDataset):
        return rows, args
    if isinstance(rows, IterableDataset) and rows._distributed is not None:
        raise ValueError(
            "train_dataset: received the part of a data set that split_dataset_by_node made. Accepted: the whole data "
            "set, since the main process reads it and gives each process its rows. Leave out split_dataset_by_node."
        )
    columns = from_main(lambda: _columns_of(next(iter(rows), None)))
    if columns is None:
        raise ValueError("train_dataset: received no rows. Accepted: at least one. Check what was loaded.")
    stream: TextStream
    if "input_ids" in columns:
        stream = RowStream(lambda: map(_row, rows), labelled="labels" in columns)
        if stream.labelled:
            _say_labels("train_dataset")
    elif "text" in columns:
        stream = TextStream(lambda: map(_text, rows))
    else:
        raise _no_text("train_dataset", columns)
    if not args.streaming:
        args = copy.copy(args)
        args.streaming = True
        if args.dataloader_num_workers:
            logger.warning("dataloader_num_workers is 0: the main process reads the stream for all.")
            args.dataloader_num_workers, args.dataloader_prefetch_factor = 0, None
        args.dataloader_persistent_workers = False
        check(args)
    return stream, args


def _columns_of(row: Any) -> list[str] | None:
    if row is None:
        return None
    if isinstance(row, str):
        return ["text"]
    return list(row) if isinstance(row, Mapping) else ["input_ids"]


def _row(row: Any) -> Any:
    return row if isinstance(row, Mapping) else {"input_ids": np.asarray(row)}


def _text(row: Any) -> str:
    return row if isinstance(row, str) else row["text"]


def collator_of_labelled(rows: Any, collator: Any) -> Any:
    """Return the caller's collator, or None in place of one of transformers' that would mask labelled rows again."""
    if rows is None or not isinstance(collator, DataCollatorForLanguageModeling):
        return collator
    if not (isinstance(rows, RowStream) and rows.labelled) and (isinstance(rows, TextStream) or not has_labels(rows)):
        return collator
    logger.warning(
        "data_collator is not used: %s would mask rows again that bring labels of their own.", type(collator).__name__
    )
    return None


def other_columns(rows: Any, names: Collection[str]) -> list[str]:
    """Return which columns rows have, by the first one, that the model takes and that the collator only passes on.

    >>> other_columns([{"input_ids": [5], "bbox": [[1, 2, 3, 4]], "text": "to"}], ["input_ids", "bbox"])
    ['bbox']
    """
    if rows is None or isinstance(rows, TextStream):
        return []
    found = rows.column_names if isinstance(rows, Dataset) else _columns_of(rows[0]) or []
    return [name for name in found if name in names and name not in OURS]


def _require_labels(rows: Any, name: str) -> None:
    """Say that rows bring labels; raise ValueError if only some of them do."""
    if isinstance(rows, Dataset):
        without = sum(column.null_count for column in rows.with_format("arrow")[:]["labels"].chunks)
    else:
        without = sum("labels" not in row or row["labels"] is None for row in rows) if isinstance(rows, list) else 0
    if without:
        raise ValueError(
            f"{name}: {without} of its {len(rows)} rows have no labels, the others do. Accepted: labels in all rows, "
            "which are then used as they are, or in none, which are then masked here. Separate them, or remove the "
            "column."
        )
    _say_labels(name)


def _say_labels(name: str) -> None:
    logger.warning("%s brings labels of its own: they are used as they are, and nothing is masked here.", name)


def _no_text(name: str, columns: Iterable[str]) -> ValueError:
    return ValueError(
        f"{name}: received the columns {', '.join(columns)}. Accepted: `text` or `input_ids`. "
        'Rename the one that contains the text, in a data set by rows.rename_column("...", "text").'
    )


def texts_of(rows: Any) -> Iterable[str] | None:
    """Return the texts that a tokenizer can be trained on; a stream is read only if it is needed."""
    if isinstance(rows, RowStream):
        return None
    if isinstance(rows, TextStream):
        return _first(rows)
    return rows["text"] if isinstance(rows, Dataset) and "text" in rows.column_names else None


def _first(stream: TextStream) -> Iterator[str]:
    yield from from_main(stream.first)


class TransformedRows(torch.utils.data.Dataset[Any]):
    """A data set with a transform, as a sequence of what the transform returns, whatever the data set's columns are."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def as_read(rows: Any) -> Any:
    """Return a data set with a transform (`with_transform`) as rows or a list of texts, other rows unchanged.

    >>> ids = Dataset.from_dict({"input_ids": [[5, 6, 7]]}).with_transform(lambda batch: {"input_ids": [[5]]})
    >>> as_read(ids)[0]
    {'input_ids': [5]}
    """
    if not isinstance(rows, Dataset) or not len(rows):
        return rows
    if rows.format["type"] == "arrow":  # whose rows are tables
        return rows.with_format(None)
    if rows.format["type"] != "custom":
        return rows
    return TransformedRows(rows) if "input_ids" in rows[0] else list(rows)


def from_text(rows: Any, name: str) -> Any:
    """Convert rows of text (dicts with `text`, or plain strings) to a data set; return other rows unchanged.

    Raises: ValueError for a row without a text, by its number; `name` is the argument's.
    """
    rows = as_read(rows)
    if isinstance(rows, list | tuple) and len(rows):
        first = next((row for row in rows if row is not None), None)
        if first is None or isinstance(first, str):
            return Dataset.from_dict({"text": list(only_text(rows, name))})
        if isinstance(first, dict) and "text" in first and "input_ids" not in first:
            list(only_text((row.get("text") if isinstance(row, dict) else row for row in rows), name))
            return Dataset.from_list(list(rows))
    if isinstance(rows, Dataset) and "text" in rows.column_names and "input_ids" not in rows.column_names:
        return require_text(rows, name)
    return rows


def token_rows(rows: Any, name: str, tokenize: Callable[[Any], Any]) -> Any:
    """Return rows of token ids, each with its `example_id`: those that are given, or what `tokenize` makes of text.

    None stays None, a stream of training text stays a stream, and a dict of data sets becomes one of rows. `name` is
    the argument's, for messages.

    Raises: ValueError for rows without a length, none at all, or without `text` or `input_ids`.
    """
    if rows is None or (isinstance(rows, dict) and not rows):
        return None
    if name == "train_dataset" and isinstance(rows, TextStream):
        return rows
    if isinstance(rows, dict) and name == "train_dataset":
        raise ValueError(
            f"{name}: received {type(rows).__name__} with {', '.join(map(str, rows))}. Accepted: one of its data sets. "
            f"Pass train_dataset=...[{next(iter(rows))!r}]."
        )
    if isinstance(rows, dict):
        return {key: token_rows(value, f"{name}[{key!r}]", tokenize) for key, value in rows.items()}
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        kind = type(rows).__name__
        if name == "train_dataset":
            raise ValueError(
                f"{name}: received {kind}, which has no length. Accepted: a datasets.Dataset, a sequence of rows, or a "
                "stream: an IterableDataset, or TextStream(read) with MLMConfig(streaming=True, max_steps=...), where "
                "read() yields paragraphs. Pass one of these."
            )
        raise ValueError(
            f"{name}: received {kind}, which has no length. Accepted: a datasets.Dataset or a sequence of rows, since "
            "each evaluation measures all of them. Take as many as are to be measured: list(eval_dataset.take(2000)), "
            "or list(itertools.islice(eval_dataset, 2000))."
        )
    if len(rows) == 0:
        raise ValueError(f"{name}: received no rows. Accepted: at least one. Check what was loaded.")
    rows = from_text(rows, name)
    columns = rows.column_names if isinstance(rows, Dataset) else getattr(rows[0], "keys", lambda: ["input_ids"])()
    if "input_ids" in columns:
        if has_labels(rows):
            _require_labels(rows, name)
        return with_example_id(rows)
    if "text" not in columns:
        raise _no_text(name, columns)
    return tokenize(rows)


def longest_row(rows: Any) -> int | None:
    """Return the number of tokens of the longest row of `token_rows`, or None if that is not known without reading all.

    >>> longest_row(Dataset.from_dict({"input_ids": [[1, 2], [3]]}))
    2
    """
    if isinstance(rows, dict):
        known = [longest_row(each) for each in rows.values()]
        return None if None in known else max(each or 0 for each in known)
    if isinstance(rows, PreparedRows):
        return rows.index.longest
    if isinstance(rows, NumberedRows | MixedRows):
        rows = rows.rows
    if isinstance(rows, Dataset):
        return int(list_lengths(rows, "input_ids").max(initial=0))
    if isinstance(rows, list):
        return max(len(row["input_ids"] if isinstance(row, Mapping) else row) for row in rows)
    return None
