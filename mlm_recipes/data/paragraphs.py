"""Reads the paragraphs of a `TextSource`: once, into a cache on disk, or as a stream."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from tqdm.auto import tqdm

from ..metrics_file import TEXT_COLUMN, FilesRead, ReadingCounts, ReadText
from ..sources.hub_datasets import load_splits
from .corpus_name import Reading, TextSource
from .tables import choose_column, read_table
from .text_cache import read_once
from .text_files import read_text

#: What is counted while a text is read, and how it is printed.
COUNTS = {
    "blank_lines_dropped": "blank lines dropped",
    "gutenberg_lines_dropped": "lines of Project Gutenberg's header and footer dropped",
    "rows_without_text": "rows without text dropped",
    "undecodable_replaced": "undecodable bytes replaced",
    "very_long_cut": "paragraphs of more than 100,000 characters cut into parts",
    "files_left_out": "files of other formats skipped",
}


def read_paragraphs(source: TextSource) -> tuple[Dataset, Dataset | None, ReadText]:
    """Read a text, or return it from the cache if it was read before.

    Returns:
        Its rows, with the columns of `mlm_recipes.data.text_cache.read_once`; the rows of a hub data set's `validation`
        split, if it has one and `train` is read, otherwise None; and the facts for metrics.json.

    Raises: ValueError for files that cannot be read or contain no text, and as `mlm_recipes.sources.hub_datasets`.

    >>> from mlm_recipes.data.corpus_name import resolve
    >>> rows, held_out, facts = read_paragraphs(resolve("general-english"))
    >>> len(rows), held_out, facts["blank_lines_dropped"]
    (60, None, 0)
    """
    held_out: Dataset | None = None
    if source.kind == "hub":
        rows, held_out, counts = _read_hub(source)
    else:
        rows, counts = _read_files(source)
    mended = cast(ReadingCounts, {key: counts.get(key, 0) for key in COUNTS})
    files = {key: counts[key] for key in counts if key.startswith(("files_read_by_", TEXT_COLUMN))}
    facts = source.facts()
    return rows, held_out, {**facts, **mended, "fingerprint": counts["fingerprint"], **cast(FilesRead, files)}


def stream_paragraphs(source: TextSource) -> Callable[[], Iterator[str]]:
    """Return a function that opens a text and yields its paragraphs, from the beginning at each call.

    Nothing is read before the first call, and nothing is cached. A hub data set is read over the network.

    The function raises: ValueError for files that cannot be read.

    >>> from mlm_recipes.data.corpus_name import resolve
    >>> read = stream_paragraphs(resolve("general-english", for_streaming=True))
    >>> sum(1 for paragraph in read()), sum(1 for paragraph in read())
    (60, 60)
    """
    return _hub_stream(source) if source.kind == "hub" else functools.partial(_texts_in_all, source)


# Files


def _read_files(source: TextSource) -> tuple[Dataset, dict[str, Any]]:
    stats = [(file, file.stat()) for file, _ in source.files if file.is_file()]
    key = [
        [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats],
        [format for _, format in source.files],
        asdict(source.reading),
    ]

    def read(counts: Counter[str]) -> Iterator[str]:
        with _bar(sum(stat.st_size for _, stat in stats)) as bar:
            for file, format in source.files:
                start = bar.n

                def position(done: int, start: int = start) -> None:
                    bar.update(start + done - bar.n)

                yield from _texts_in(file, format, source.reading, counts, position)

    rows, counts = read_once(key, read)
    if not len(rows):
        raise ValueError(
            f"corpus: {source.path!r} contains no text ({counts.get('blank_lines_dropped', 0)} blank lines). Accepted: "
            "text with at least two different paragraphs. Check that the file is the one you meant."
        )
    return rows, counts | {"files_left_out": source.files_left_out}


def _texts_in_all(source: TextSource) -> Iterator[str]:
    for file, format in source.files:
        yield from _texts_in(file, format, source.reading, Counter())


def _texts_in(
    file: Path,
    format: str,
    reading: Reading,
    counts: Counter[str],
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    encoding = (reading.encoding, reading.encoding_errors)
    if format in ("text", "markdown"):
        return read_text(file, counts, reading.sample_by, *encoding, position=position)
    return read_table(file, format, counts, reading.text_column, *encoding, position=position)


def _bar(total: int) -> Any:
    """Return a progress bar in bytes, shown on a terminal if reading takes more than two seconds."""
    return tqdm(
        total=total, unit="B", unit_scale=True, desc="Reading", delay=2, leave=False, disable=not sys.stderr.isatty()
    )


# Data sets of the hub


def _read_hub(source: TextSource) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    name, version = source.name, source.version
    splits = load_splits(name, config=version.config, revision=version.revision)
    split = version.split or "train"
    if split not in splits:
        raise ValueError(
            f"corpus_split: the hub data set {name!r} has the splits {', '.join(splits)}, not {split!r}. Accepted: "
            "one of these. Pass --corpus_split with the one to train on."
        )
    rows, counts = _texts_of(cast(Dataset, splits[split]), source)
    held_out = None
    if split == "train" and "validation" in splits:
        held_out, _ = _texts_of(cast(Dataset, splits["validation"]), source)
    return rows, held_out, counts


def _texts_of(rows: Dataset, source: TextSource) -> tuple[Dataset, dict[str, Any]]:
    column = choose_column(rows.select(range(min(len(rows), 200))), source.reading.text_column, source.name)
    kind = rows.features[column]
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"text_column: the column {column!r} of {source.name!r} contains {kind}. Accepted: a column of strings. "
            "Pass --text_column with the one that contains the text."
        )

    def read(counts: Counter[str]) -> Iterator[str]:
        counts[f"{TEXT_COLUMN}{column}"] += 1
        return _column_of(rows, column, counts)

    return read_once([rows._fingerprint, column], read)


def _column_of(rows: Any, column: str, counts: Counter[str]) -> Iterator[str]:
    for batch in rows.select_columns([column]).iter(batch_size=1000):
        for text in batch[column]:
            if isinstance(text, str) and text.strip():
                yield text
            elif text is None or isinstance(text, str):
                counts["rows_without_text"] += 1
            else:
                raise ValueError(
                    f"text_column: the column {column!r} contains {type(text).__name__} ({str(text)[:40]!r}). "
                    "Accepted: a column of strings. Pass --text_column with the one that contains the text."
                )


def _hub_stream(source: TextSource) -> Callable[[], Iterator[str]]:
    """Return a function that reads a hub data set's texts over the network, a batch at a time."""

    @functools.cache  # the hub is contacted once, by the process that reads
    def opened() -> tuple[Any, str]:
        version, split = source.version, source.version.split or "train"
        splits: Any = load_splits(
            source.name, config=version.config, split=split, revision=version.revision, streaming=True
        )
        return splits[split], choose_column(splits[split].take(200), source.reading.text_column, source.name)

    return lambda: _column_of(*opened(), Counter())
