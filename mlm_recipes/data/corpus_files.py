"""Reads the texts in a corpus's files: text files, and tables whose column is chosen once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .called_text import refuse_table
from .column_reader import ColumnReader
from .corpus_name import Reading
from .tables import choose_for_all, is_plain_text, read_table, sample_table
from .text_column import Choice, Evidence
from .text_files import read_text

Files = tuple[tuple[Path, str], ...]

#: The column is chosen from the contents of at most this many files, evenly spaced; reading compares it with all.
_EXAMINED = 64


def texts_of(
    files: Files,
    reading: Reading,
    name: str,
    counts: Counter[str],
    *,
    position: Callable[[int, int], Any] = lambda file, done: None,
    like: str | None = None,
    chosen: tuple[Choice | None] | None = None,
) -> Iterator[str]:
    """Yield the texts in some files, in order.

    Args:
        files: each with its format.
        name: the corpus's name, for errors.
        counts: gets what is counted.
        position: is called with a file's number and how many of its bytes were read.
        like: the column of the text that this one belongs to; it is read here, too, if these tables have it.
        chosen: of a stream, what `choose` returned. A table without the column is then named in a warning, rather than
            refused.

    Raises: ValueError for files that cannot be read, and as `mlm_recipes.data.tables.choose_for_all`.
    """
    reader: ColumnReader | None = None
    choice = choose(files, reading, name, like) if chosen is None else chosen[0]
    if choice is not None:
        reader = ColumnReader(choice, counts, name, streamed=chosen is not None)
    encoding = (reading.encoding, reading.encoding_errors)
    for number, (file, format) in enumerate(files):

        def done(bytes: int, number: int = number) -> None:
            position(number, bytes)

        if _is_text(file, format, reading):
            counts["tables_read_as_text"] += format in ("csv", "tsv")
            yield from read_text(file, counts, reading.sample_by, *encoding, position=done)
        else:
            yield from read_table(file, format, counts, reading.text_column, *encoding, position=done, reader=reader)
    if reader is not None and chosen is None:
        reader.finish()


def choose(files: Files, reading: Reading, name: str, like: str | None = None) -> Choice | None:
    """Return the column that contains the text in all files that are tables; None if none of them is.

    For the arguments and the errors, see `texts_of`.
    """
    every = max(1, -(-len(files) // _EXAMINED))
    examined = [*files[::every], *(files[-1:] if every > 1 else ())]
    tables: list[tuple[str, Evidence]] = []
    for file, format in examined:
        if format == "text":
            refuse_table(file, reading.sample_by, reading.encoding, reading.encoding_errors)
        if not _is_text(file, format, reading):
            column = reading.text_column or like
            sample = sample_table(file, format, column, reading.encoding, reading.encoding_errors)
            tables.append((str(file), sample))
    part = len(examined) < len(files) or any(format == "jsonl" for _, format in files)
    return choose_for_all(tables, reading.text_column, name, like, part)


def _is_text(file: Path, format: str, reading: Reading) -> bool:
    if format in ("text", "markdown"):
        return True
    encoding = (reading.encoding, reading.encoding_errors)
    return is_plain_text(file, format, reading.sample_by, reading.text_column, *encoding)
