"""Reads the texts of a data set of the hub: into the cache on disk, or as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ..metrics_file import SplitRole
from ..sources.hub_datasets import load_splits
from .column_reader import ColumnReader
from .corpus_name import TextSource
from .field_paths import value_at
from .split_files import roles, validation_among
from .tables import choose_for_all
from .text_cache import read_once
from .text_column import Choice, Evidence

#: The column is chosen from this many rows of each split that is used, evenly spaced; of a stream, from its first ones.
_SAMPLE, _FIRST = 1_000, 200


def read_hub(
    source: TextSource, like: str | None = None, own_split: bool = True
) -> tuple[Dataset, Dataset | None, dict[str, Any], dict[str, SplitRole]]:
    """Return a data set's rows, those of its `validation` split, what was counted, and what each split is used for.

    For the arguments and the errors, see `mlm_recipes.data.paragraphs.read_paragraphs`.
    """
    name, version = source.name, source.version
    splits: Any = load_splits(name, config=version.config, revision=version.revision)
    split = _to_train_on(source, splits)
    validation = validation_among(splits) if split == "train" and own_split else None
    used = {part: splits[part] for part in (split, validation) if part is not None}
    choice = _choose(source, ((part, _evenly(rows)) for part, rows in used.items()), like)
    rows, counts = _texts(used[split], source, choice)
    held_out = _texts(used[validation], source, choice)[0] if validation else None
    return rows, held_out, counts, roles(splits, split, validation)


@dataclass(frozen=True)
class HubStream:
    """A data set that is read over the network, a batch at a time; and what each of its splits is used for."""

    name: str
    rows: Any
    choice: Choice
    splits: dict[str, SplitRole]

    @classmethod
    def open(cls, source: TextSource) -> HubStream:
        """Contact the hub, and choose the column from the first rows."""
        version = source.version
        splits: Any = load_splits(source.name, config=version.config, revision=version.revision, streaming=True)
        split = _to_train_on(source, splits)
        choice = _choose(source, [(source.name, splits[split].take(_FIRST))])
        return cls(source.name, splits[split], choice, roles(splits, split, None))

    def texts(self) -> Iterator[str]:
        """Yield the texts from the beginning."""
        return _column_of(self.rows, self.choice, self.name, Counter())


def _to_train_on(source: TextSource, splits: Iterable[str]) -> str:
    split = source.version.split or "train"
    if split not in splits:
        raise ValueError(
            f"corpus_split: the hub data set {source.name!r} has the splits {', '.join(splits)}, not {split!r}. "
            "Accepted: one of these. Pass --corpus_split with the one to train on."
        )
    return split


def _evenly(rows: Dataset) -> Iterable[Any]:
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int)))


def _choose(source: TextSource, parts: Iterable[tuple[str, Iterable[Any]]], like: str | None = None) -> Choice:
    tables = ((part, Evidence.of(rows)) for part, rows in parts)
    choice = choose_for_all(tables, source.reading.text_column, source.name, like)
    if choice is None:
        raise ValueError(
            f"corpus: {source.name!r} contains no rows. Accepted: text with at least two different paragraphs. Name a "
            "different data set, or another --corpus_split."
        )
    return choice


def _texts(rows: Dataset, source: TextSource, choice: Choice) -> tuple[Dataset, dict[str, Any]]:
    kind = rows.features.get(choice.column)
    if kind is not None and getattr(kind, "dtype", None) not in ("string", "large_string", "list", None):
        raise ValueError(
            f"text_column: the column {choice.column!r} of {source.name!r} contains {kind}. Accepted: a column of "
            "strings. Pass --text_column with the one that contains the text."
        )

    def read(counts: Counter[str]) -> Iterator[str]:
        return _column_of(rows, choice, source.name, counts)

    return read_once([rows._fingerprint, choice.column], read)


def _column_of(rows: Any, choice: Choice, name: str, counts: Counter[str]) -> Iterator[str]:
    reader = ColumnReader(choice, counts, name, streamed=True)
    top = choice.column if choice.column in (rows.column_names or [choice.column]) else choice.column.split(".")[0]

    def values() -> Iterator[tuple[int, Any]]:
        number = 0
        for batch in rows.select_columns([top]).iter(batch_size=1000):
            for number, value in enumerate(batch[top], start=number + 1):  # noqa: B020
                yield number, value_at({top: value}, choice.column)

    return reader.texts(values(), lambda number: f"{name}, row {number}", name, Evidence())
