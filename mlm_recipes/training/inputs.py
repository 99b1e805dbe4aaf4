"""The training data that MLMTrainer accepts: text, rows or a stream, checked and converted to one form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from datasets import Dataset

from ..data.columns import list_lengths
from ..data.rows import NumberedRows, with_example_id
from ..data.streams import TextStream
from .config import MLMConfig
from .processes import from_main


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


def texts_of(rows: Any) -> Iterable[str] | None:
    """Return the texts that a tokenizer can be trained on; a stream is read only if it is needed."""
    if isinstance(rows, TextStream):
        return _first(rows)
    return rows["text"] if isinstance(rows, Dataset) and "text" in rows.column_names else None


def _first(stream: TextStream) -> Iterator[str]:
    yield from from_main(stream.first)


def from_text(rows: Any) -> Any:
    """Convert rows of text (dicts with `text`, or plain strings) to a data set; return other rows unchanged."""
    if isinstance(rows, list | tuple) and len(rows):
        if isinstance(rows[0], str):
            return Dataset.from_dict({"text": list(rows)})
        if isinstance(rows[0], dict) and "text" in rows[0] and "input_ids" not in rows[0]:
            return Dataset.from_list(list(rows))
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
    if isinstance(rows, dict):
        return {key: token_rows(value, f"{name}[{key!r}]", tokenize) for key, value in rows.items()}
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        raise ValueError(
            f"{name}: received {type(rows).__name__}, which has no length. Accepted: a datasets.Dataset or a "
            "sequence of rows. Turn it into a list first."
        )
    if len(rows) == 0:
        raise ValueError(f"{name}: received no rows. Accepted: at least one. Check what was loaded.")
    rows = from_text(rows)
    columns = rows.column_names if isinstance(rows, Dataset) else getattr(rows[0], "keys", lambda: ["input_ids"])()
    if "input_ids" in columns:
        return with_example_id(rows)
    if "text" not in columns:
        raise ValueError(
            f"{name}: received the columns {', '.join(columns)}. Accepted: `text` or `input_ids`. "
            'Rename the one that contains the text, in a data set by rows.rename_column("...", "text").'
        )
    return tokenize(rows)


def longest_row(rows: Any) -> int | None:
    """Return the number of tokens of the longest row of `token_rows`, or None if that is not known without reading all.

    >>> longest_row(Dataset.from_dict({"input_ids": [[1, 2], [3]]}))
    2
    """
    if isinstance(rows, dict):
        known = [longest_row(each) for each in rows.values()]
        return None if None in known else max(each or 0 for each in known)
    if isinstance(rows, NumberedRows):
        rows = rows.rows
    if isinstance(rows, Dataset):
        return int(list_lengths(rows, "input_ids").max(initial=0))
    if isinstance(rows, list):
        return max(len(row["input_ids"] if isinstance(row, Mapping) else row) for row in rows)
    return None
