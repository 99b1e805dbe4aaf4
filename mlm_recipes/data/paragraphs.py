"""Reads the paragraphs of a `TextSource`: once, into a cache on disk, or as a stream."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

from datasets import Dataset
from tqdm.auto import tqdm

from ..metrics_file import TEXT_COLUMN, Characters, ReadingCounts, ReadText, TextColumn
from .column_reader import CHARACTERS, column_facts
from .columns import column as column_of_numbers
from .corpus_files import Files, choose, texts_of
from .corpus_name import TextSource
from .hub_texts import HubStream, read_hub
from .text_cache import read_once
from .text_column import Choice

#: What is counted while a text is read, and how it is printed.
COUNTS = {
    "blank_lines_dropped": "blank lines dropped",
    "gutenberg_lines_dropped": "lines of Project Gutenberg's header and footer dropped",
    "rows_without_text": "rows without text dropped",
    "undecodable_replaced": "undecodable bytes replaced",
    "very_long_cut": "paragraphs of more than 100,000 characters cut into parts",
    "files_left_out": "files of other formats skipped",
}

#: What is counted only if there is any.
_TABLES = ("files_without_text", "files_without_header", "tables_read_as_text")


def read_paragraphs(
    source: TextSource, *, like: str | None = None, own_split: bool = True
) -> tuple[Dataset, Dataset | None, ReadText]:
    """Read a text, or return it from the cache if it was read before.

    Args:
        like: the column of the text that this one belongs to; it is read here, too, if these tables have it.
        own_split: whether a `validation` split is held out.

    Returns:
        Its rows, with the columns of `mlm_recipes.data.text_cache.read_once`; the rows of its `validation` split, if it
        has one and `train` is read, otherwise None; and the facts for metrics.json.

    Raises: ValueError for files that cannot be read or contain no text, and as `mlm_recipes.sources.hub_datasets`.

    >>> from mlm_recipes.data.corpus_name import resolve
    >>> rows, held_out, facts = read_paragraphs(resolve("general-english"))
    >>> len(rows), held_out, facts["blank_lines_dropped"]
    (60, None, 0)
    """
    held_out: Dataset | None = None
    if source.kind == "hub":
        rows, held_out, counts, splits = read_hub(source, like, own_split)
    else:
        rows, counts = _read_files(source, source.files, like)
        column = column_facts(counts)
        splits = dict(source.splits)
        if source.held_out_files and own_split:
            held_out, _ = _read_files(source, source.held_out_files, column["name"] if column else None)
    if not own_split:
        splits = {name: "not read" if role == "held out" else role for name, role in splits.items()}
    mended = cast(ReadingCounts, {key: counts.get(key, 0) for key in COUNTS})
    files = {key: counts[key] for key in counts if key.startswith(("files_read_by_", TEXT_COLUMN))}
    facts: dict[str, Any] = {**source.facts(), **mended, "fingerprint": counts["fingerprint"], **files}
    if (column := column_facts(counts)) is not None:
        facts["text_column"] = column
    facts |= {key: counts[key] for key in _TABLES if counts.get(key)}
    if splits:
        facts["splits"] = splits
    facts["characters"] = _characters(rows, counts)
    return rows, held_out, cast(ReadText, facts)


def read_held_out(source: TextSource, like: TextColumn | None) -> tuple[Dataset, ReadText]:
    """Return the rows of a text that is held out as a whole, or of its `validation` split if it has one; and its facts.

    `like` is the column of the training text, if that is a table.
    """
    rows, held_out, facts = read_paragraphs(source, like=None if like is None else like["name"])
    if "splits" in facts:
        used = "trained on" if held_out is None else "held out"
        facts["splits"] = {name: "held out" if role == used else "not read" for name, role in facts["splits"].items()}
    return held_out or rows, facts


def _characters(rows: Dataset, counts: Mapping[str, int]) -> Characters:
    """Return how many characters of text there were, and what of it was not kept while reading."""
    column = column_facts(counts)
    kept = int(column_of_numbers(rows, "characters").sum())
    read = counts.get("characters_read", 0) + (counts.get(f"{CHARACTERS}{column['name']}", 0) if column else 0)
    gutenberg = counts.get("characters_gutenberg", 0)
    found = {"header and footer of Project Gutenberg": gutenberg, "white space": max(0, read - kept - gutenberg)}
    return {"read": max(read, kept), "kept": kept, "left_out": {why: number for why, number in found.items() if number}}


def stream_paragraphs(source: TextSource) -> StreamedParagraphs:
    """Return a function that opens a text and yields its paragraphs, from the beginning at each call.

    Nothing is read before the first call, and nothing is cached. A hub data set is read over the network.

    The function raises: ValueError for files that cannot be read.

    >>> from mlm_recipes.data.corpus_name import resolve
    >>> read = stream_paragraphs(resolve("general-english", for_streaming=True))
    >>> sum(1 for paragraph in read()), sum(1 for paragraph in read())
    (60, 60)
    """
    return StreamedParagraphs(source)


class StreamedParagraphs:
    """A text that is opened at each call; the column is chosen at the first, by the process that reads."""

    def __init__(self, source: TextSource) -> None:
        self.source = source

    def __call__(self) -> Iterator[str]:
        """Yield the paragraphs from the beginning."""
        if self.source.kind == "hub":
            return self._hub.texts()
        return texts_of(self.source.files, self.source.reading, self.source.path, Counter(), chosen=self._chosen)

    def facts(self) -> dict[str, Any]:
        """Return what metrics.json says of a stream: the column that contains the text, and the use of splits."""
        hub = self.source.kind == "hub"
        choice = self._hub.choice if hub else self._chosen[0]
        splits = self._hub.splits if hub else dict(self.source.splits)
        facts: dict[str, Any] = {} if choice is None else {"text_column": choice.facts()}
        return facts | ({"splits": splits} if splits else {})

    def own_validation(self) -> Dataset | None:
        """Return the `validation` split of a folder; None if there is none, and for a data set of the hub."""
        if not self.source.held_out_files:
            return None
        choice = self._chosen[0]
        rows, _ = _read_files(self.source, self.source.held_out_files, choice.column if choice else None)
        return rows.select_columns(["text", "example_id", "digest"])

    @cached_property
    def _chosen(self) -> tuple[Choice | None]:
        return (choose(self.source.files, self.source.reading, self.source.path),)

    @cached_property
    def _hub(self) -> HubStream:
        return HubStream.open(self.source)


# Files


def _read_files(source: TextSource, files: Files, like: str | None) -> tuple[Dataset, dict[str, Any]]:
    stats = [(file, file.stat()) for file, _ in files if file.is_file()]
    key = [
        [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats],
        [format for _, format in files],
        asdict(source.reading),
        like,
    ]
    sizes = {file: stat.st_size for file, stat in stats}
    begins = list(accumulate((sizes.get(file, 0) for file, _ in files), initial=0))

    def read(counts: Counter[str]) -> Iterator[str]:
        with _bar(begins[-1]) as bar:

            def position(file: int, done: int) -> None:
                bar.update(begins[file] + done - bar.n)

            yield from texts_of(files, source.reading, source.path, counts, position=position, like=like)

    rows, counts = read_once(key, read)
    if not len(rows):
        raise ValueError(
            f"corpus: {source.path!r} contains no text ({counts.get('blank_lines_dropped', 0)} blank lines). Accepted: "
            "text with at least two different paragraphs. Check that the file is the one you meant."
        )
    return rows, counts | {"files_left_out": source.files_left_out}


def _bar(total: int) -> Any:
    """Return a progress bar in bytes, shown on a terminal if reading takes more than two seconds."""
    return tqdm(
        total=total, unit="B", unit_scale=True, desc="Reading", delay=2, leave=False, disable=not sys.stderr.isatty()
    )
