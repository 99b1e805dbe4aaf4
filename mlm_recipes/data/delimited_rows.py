"""Reads the rows of a CSV or TSV file, and names the line that is wrong."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, zip_longest
from pathlib import Path

from .delimited import LINES, Dialect, dialect_of, told_separator
from .text_blocks import lines_of
from .text_column import is_text


def delimited_rows(
    path: Path,
    text: Iterable[str],
    separator: str | None = None,
    column: str | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    """Yield each row with the number of the line on which it begins; a row with too few cells has None in the others.

    Args:
        text: the file's text in blocks.
        separator, column: as for `mlm_recipes.data.delimited.dialect_of`.
        counts: gets `files_without_header`.

    Raises: ValueError, with the line, for a row that cannot be read or has too many cells, and for a cell that begins
    with a quotation mark and contains whole rows.

    >>> list(delimited_rows(Path("a.csv"), ["id,said\\n1,to be\\n"]))
    [(2, {'id': '1', 'said': 'to be'})]
    """
    csv.field_size_limit(2**31 - 1)
    lines = lines_of(text)
    start = list(islice(lines, LINES))
    if not start:
        return
    told = told_separator(start[0])
    start = start[1:] if told else start
    if not start:
        return
    dialect = dialect_of(start, told or separator, column)
    if counts is not None and not dialect.header:
        counts["files_without_header"] += 1
    names = dialect.header
    for number, cells in _numbered(path, chain(start, lines), dialect, 2 if told else 1):
        if cells and not names:
            yield number, dict(zip_longest(dialect.columns, cells))
        names = names and not cells


def _numbered(path: Path, lines: Iterable[str], dialect: Dialect, begins: int) -> Iterator[tuple[int, list[str]]]:
    width, header = len(dialect.columns), dialect.header
    if not dialect.quoted:
        opened = False  # whether the last cell begins with a quotation mark that is not closed
        for number, line in enumerate(lines, start=begins):
            cells = line.split(dialect.separator) if line else []
            if len(cells) > width:
                raise _wrong(path, f"line {number}", f"{len(cells)} cells {_under(width, header)}")
            if opened and len(cells) < width:
                raise ValueError(
                    f"corpus: {path}, line {number - 1}: a cell begins with a quotation mark, and the next line is no "
                    "row, although quotation marks at the beginning of the file are not around cells. Accepted: cells "
                    "without line breaks, or quotes around all cells. Write the file again in one of these ways."
                )
            opened = bool(cells) and cells[-1].startswith('"') and cells[-1].count('"') % 2 == 1
            yield number, cells
        return
    recent: list[str] = []  # the lines of this row

    def told() -> Iterator[str]:
        for line in lines:
            recent.append(line)
            yield f"{line}\n"

    reader = csv.reader(told(), delimiter=dialect.separator, strict=True)
    try:
        for cells in reader:
            if len(recent) > 1 and (row := _row_within(recent, dialect)):
                raise ValueError(
                    f"corpus: {path}, line {begins}: a cell that begins with a quotation mark goes on to line "
                    f"{begins + len(recent) - 1}, but line {begins + row} is a row of its own. Accepted: a table in "
                    'which quotation marks within a cell are doubled ("") and the cell is quoted. Remove or double the '
                    f"quotation mark on line {begins}."
                )
            if len(cells) > width:
                raise _wrong(path, f"line {begins}", f"{len(cells)} cells {_under(width, header)}")
            yield begins, cells
            begins += len(recent)
            recent.clear()
    except csv.Error as error:
        last = begins + len(recent) - 1
        place = f"line {begins}"
        if len(recent) > 1 and not _row_within(recent, dialect) and "unexpected end" not in str(error):
            place = f"line {last}, in the row that begins on line {begins}"
        raise _wrong(path, place, str(error)) from None


def _row_within(lines: list[str], dialect: Dialect) -> int | None:
    """Return which of a row's lines after the first is a row of its own, from 1; None if none is.

    It has as many cells as there are columns, and something that is no text in each column that has no text. Without
    such a column, no space follows its separators, as one does in sentences.
    """
    if len(dialect.columns) < 2:
        return None
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(dialect.separator)
        if not dialect.keys and f"{dialect.separator} " in line:
            continue
        whole = len(cells) == len(dialect.columns) or (len(cells) > 1 and cells[-1].startswith('"'))
        if whole and all(n < len(cells) and cells[n].strip() and not is_text(cells[n]) for n in dialect.keys):
            return number
    return None


def _under(width: int, header: bool) -> str:
    return f"under {width} column names" if header else f"in a table of {width} columns without a header"


def _wrong(path: Path, place: str, what: str) -> ValueError:
    return ValueError(
        f"corpus: {path}, {place}: {what}. Accepted: a table whose first line names its columns, with quotes around "
        "cells that contain the separator. Correct that line; for plain text, rename the file to end in .txt."
    )
