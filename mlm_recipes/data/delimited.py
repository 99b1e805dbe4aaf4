"""Decides how a CSV or TSV file is read: its separator, its quoting, its header, or that it is no table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from .text_column import Column, is_text

#: How many lines at the beginning of a file are examined.
LINES = 500

_SEPARATORS = ",;\t|"

#: The line above the header by which Excel is told the separator; it is no row.
_EXCEL = re.compile(r"sep=([,;\t|])", re.IGNORECASE)

#: Cells within these separators are taken literally, quotation marks included, unless quoting is evident.
_LITERAL = "\t|"


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is read.

    Args:
        separator: between the cells.
        quoted: whether quotation marks around a cell are quoting; otherwise they are part of the text.
        header: whether the first line names the columns.
        columns: the names of the columns; without a header `1`, `2`, ...
        keys: the numbers, from 0, of columns of numbers, dates, addresses and the like.
        plain: `yes` if the file is plain text, although its name says otherwise; `maybe` if it may be.
    """

    separator: str
    quoted: bool
    header: bool
    columns: tuple[str, ...]
    keys: tuple[int, ...]
    plain: Literal["yes", "maybe", "no"]


def dialect_of(lines: Sequence[str], separator: str | None = None, column: str | None = None) -> Dialect:
    """Decide how to read a file from its first lines.

    Args:
        lines: without their ends; the last one may be incomplete.
        separator: by default the one that divides most lines into the same number of cells.
        column: the column to read, if it was named. If it is in the first line, that is the header; if it is a number
            and not in the first line, there is no header. A number does not decide where the cells themselves do.

    >>> dialect_of(["id;said", '1;"to be; or not"'])
    Dialect(separator=';', quoted=True, header=True, columns=('id', 'said'), keys=(0,), plain='no')
    >>> dialect_of(["1,to be", "2,or not"]).columns
    ('1', '2')
    >>> dialect_of(["To be, or not, my lord.", "That is it, I say."]).plain
    'yes'
    """
    separator = separator or max(_SEPARATORS, key=lambda each: (*_agreement(lines, each), lines[0].count(each)))
    quoted = separator not in _LITERAL or _quoting_is_evident(lines, separator)
    rows = _rows(lines, separator, quoted)
    first, others = rows[0] if rows else [], rows[1:]
    by_column = [Column() for _ in first]
    for row in others:
        for cell, found in zip(row, by_column, strict=False):
            found.add(cell)
    keys = tuple(n for n, found in enumerate(by_column) if found.examples and found.kind == "key")
    names = _distinct([cell.strip() for cell in first])
    spaced = _spaced("\n".join(lines), separator)
    header, surely = _header(first, others, by_column, keys, spaced)
    numbered = column is not None and column.isdecimal() and 1 <= int(column) <= len(first)
    if column is not None and not (numbered and surely):  # a label in the first row may equal the column's number
        header = column in names or (header and not numbered)
    plain: Literal["yes", "maybe", "no"] = "no"
    if not surely and column is None:
        plain = _plain(rows, separator, header, spaced)
    if not header:
        width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
        names = [str(number) for number in range(1, max(width, len(first)) + 1)]
    return Dialect(separator, quoted, header, tuple(names), keys, plain)


def told_separator(line: str) -> str | None:
    """Return the separator that a file's first line tells Excel; None if it is no such line.

    >>> told_separator("sep=;"), told_separator("id;said")
    (';', None)
    """
    told = _EXCEL.fullmatch(line.strip(' \r\ufeff"') or line)
    return told[1] if told else None


def _rows(lines: Sequence[str], separator: str, quoted: bool) -> list[list[str]]:
    """Return the rows in some lines, as far as they can be read."""
    if not quoted:
        return [line.split(separator) for line in lines if line]
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in csv.reader((f"{line}\n" for line in lines), delimiter=separator) if row)
    except csv.Error:  # reading the file says what is wrong, and where
        return [line.split(separator) for line in lines if line]
    return rows


def _agreement(lines: Sequence[str], separator: str) -> tuple[float, bool, bool, bool]:
    """Return the share of the rows that have the most frequent number of cells, if that is more than one.

    Of separators that divide equally well, one that is not part of sentences is preferred, and one in the first line.
    """
    widths = Counter(map(len, _rows(lines, separator, separator not in _LITERAL)))
    if not widths:
        return 0.0, False, False, False
    width, rows = widths.most_common(1)[0]
    alike = rows / widths.total() if width > 1 else 0.0
    text = "\n".join(lines)
    return alike, separator in text, not _spaced(text, separator), lines[0].count(separator) + 1 >= width


def _quoting_is_evident(lines: Sequence[str], separator: str) -> bool:
    """Tell whether quotation marks are around cells, and not part of them.

    Two readings are compared. Quoting is evident if only that reading makes every row as long as the header; or if both
    do, and the header is quoted, quotation marks are doubled, or nearly all cells of text are quoted.
    """
    cells = [cell for line in lines for cell in line.split(separator)]
    begins = [cell for cell in cells if cell.startswith('"')]
    if not begins:
        return False
    width = len(next(iter(_rows(lines[:1], separator, True)), []))
    try:
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
        asked = [len(row) for row in islice(reader, LINES) if row]
    except csv.Error as error:
        # The last row may only be cut off here; any other error shows that the quotation marks are not quoting.
        if "unexpected end" not in str(error):
            return False
        asked = [0]
    literal = [len(line.split(separator)) for line in lines if line]
    if any(found != width for found in literal):
        return all(found == width for found in asked) or asked == [0]
    if any(found != width for found in asked):
        return False
    whole = [cell for cell in begins if len(cell) > 1 and re.fullmatch(r'"(?:[^"]|"")*"', cell)]
    if len(whole) < len(begins):
        return False
    texts = [cell for cell in cells if is_text(cell.strip('"')) and cell]
    return lines[0].startswith('"') or any('""' in cell[1:-1] for cell in whole) or len(whole) >= 0.9 * len(texts)


def _header(
    first: Sequence[str], others: Sequence[Sequence[str]], columns: Sequence[Column], keys: Sequence[int], spaced: bool
) -> tuple[bool, bool]:
    """Tell whether the first row names the columns, and whether that is certain.

    A column of numbers or dates under a cell that is none has a header. A cell that is a number or the like, that
    occurs again below it, or that is a sentence, is no name. Where the commas are `spaced`, a cell may occur again
    because sentences begin alike.
    """
    if [cell for cell in first if cell] == [str(n) for n in range(len([cell for cell in first if cell]))]:
        return True, True  # as pandas names columns without names
    if any(first[n].strip() and not columns[n].has_like(first[n]) and len(columns[n].examples) > 1 for n in keys):
        return True, True
    values = [{row[n] for row in others if n < len(row)} for n in range(len(first))]
    for n, cell in enumerate(first):
        again = cell.strip() and cell in values[n] and any(list(row) != list(first) for row in others)
        number = cell.strip() and not is_text(cell) and not cell.startswith(" ")  # in a sentence, a space precedes it
        if number or (again and not spaced and _may_be_a_name(cell)):
            return False, True
    return all(map(_may_be_a_name, first)), False


def _spaced(text: str, separator: str) -> bool:
    """Tell whether white space follows a separator nearly everywhere, as in sentences."""
    between = text.count(separator)
    return between > 0 and len(re.findall(re.escape(separator) + r"\s", text)) >= 0.9 * between


def _may_be_a_name(cell: str) -> bool:
    words = cell.split()
    spoken = cell.startswith((" ", '"')) or cell.endswith((".", "!", ",", ";", ":", "\u3002", '"'))
    return len(words) <= 3 and len(cell) <= 40 and "\n" not in cell and not spoken


def _plain(rows: Sequence[Sequence[str]], separator: str, header: bool, spaced: bool) -> Literal["yes", "maybe", "no"]:
    """Tell whether lines whose header, if any, is not certain are text with commas in it."""
    if spaced and not header and separator in ",;":
        return "yes"
    widths = Counter(map(len, rows))
    width, number = widths.most_common(1)[0]
    uneven = len(widths) > 1 and (number < 0.9 * widths.total() or len(rows[0]) != width)
    return "maybe" if uneven and (spaced or not header) else "no"


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names of columns; one without a name is called by its number, and a repeated name gets one, too."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        name = name or str(number)
        found.append(name if name not in found else f"{name}.{number}")
    return found
