"""Reads the texts in one column of a table: JSON lines, JSON, CSV, TSV, Parquet or Arrow."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from .arrow_rows import arrow_records, arrow_values, sample_arrow
from .column_reader import ColumnReader
from .delimited import LINES, dialect_of, told_separator
from .delimited_rows import delimited_rows
from .field_paths import value_at
from .json_rows import json_lines, json_rows
from .text_blocks import lines_of, open_bytes, text_blocks
from .text_column import Choice, Evidence, Record, choose_column

Numbered = Iterator[tuple[int, Record]]

#: The formats whose rows are known to pyarrow.
_ARROW = ("parquet", "arrow")

#: What the number of a row is in an error; for other formats it is the row's.
_UNITS = {"jsonl": "line", "csv": "line", "tsv": "line", "json": "element"}

#: How many rows at the beginning of a table are examined, and how many of all of it.
_START, _SAMPLE = 200, 1_000

#: How many values of a column are kept that has no text in the first rows.
_EXAMPLES = 50

#: A smaller file is examined completely, in bytes; of a larger one, so many blocks of that size.
_SMALL, _BLOCK, _BLOCKS = 2**18, 2**15, 8


def read_table(
    path: Path,
    kind: str,
    counts: Counter[str],
    text_column: str | None = None,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    position: Callable[[int], Any] = lambda _: None,
    reader: ColumnReader | None = None,
) -> Iterator[str]:
    """Yield the texts of a table's rows, in order.

    Args:
        kind: `jsonl`, `json`, `csv`, `tsv`, `parquet` or `arrow`.
        counts: gets what `ColumnReader` counts.
        text_column: the name of the column, or a path such as `data.paragraphs.context`; by default `choose_column`
            decides.
        encoding, encoding_errors, position: as for `mlm_recipes.data.text_blocks.text_blocks`; they do not apply to
            Parquet and Arrow.
        reader: for a table that is one of several: reads the column that was chosen for all of them.

    Raises: ValueError for a file that is damaged (with the line or row, if known), a missing column, or a table without
    a column of text.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.jsonl"
    >>> _ = path.write_text('{"id": "a", "body": "to be or not"}\\n{"id": "b", "body": null}\\n')
    >>> counts = Counter()
    >>> list(read_table(path, "jsonl", counts)), counts["rows_without_text"]
    (['to be or not'], 1)
    """
    alone = reader is None
    if reader is None:
        sample = sample_table(path, kind, text_column, encoding, encoding_errors)
        if not sample.rows:
            return
        reader = ColumnReader(choose_column(sample, text_column, str(path), kind == "jsonl"), counts, str(path))
    column = reader.choice.column
    where = lambda number: f"{path}, {_UNITS.get(kind, 'row')} {number}"  # noqa: E731
    if kind in _ARROW:
        named = reader.choice.why == "named"
        start = Evidence.of(sample_arrow(path, kind, _START))
        yield from reader.texts(
            arrow_values(path, kind, column, reader.count_other, not named), where, str(path), start
        )
    else:
        text = text_blocks(path, counts, encoding, encoding_errors, position)
        rows = _rows(path, kind, column, text, counts)
        first = list(islice(rows, _START))
        start = Evidence.of(row for _, row in first)
        if first:
            known = {name for name, found in start.columns.items() if found.texts}
            yield from reader.texts(_values(chain(first, rows), column, reader, known), where, str(path), start)
    if alone:
        reader.finish()


def table_records(
    path: Path, kind: str, columns: Sequence[str], encoding: str = "utf-8", encoding_errors: str = "strict"
) -> Iterator[tuple[int, Record]]:
    """Yield each row of a table with its number; `columns` are those that are needed, others may be absent.

    For the other arguments and the errors, see `read_table`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.csv"
    >>> _ = path.write_text("text,label\\nto be or not,1\\n")
    >>> list(table_records(path, "csv", ["text", "label"]))
    [(2, {'text': 'to be or not', 'label': '1'})]
    """
    if kind in _ARROW:
        return arrow_records(path, kind, columns)
    unused: Counter[str] = Counter()
    return _rows(path, kind, columns[0], text_blocks(path, unused, encoding, encoding_errors), unused)


def sample_table(
    path: Path, kind: str, column: str | None = None, encoding: str = "utf-8", encoding_errors: str = "strict"
) -> Evidence:
    """Return what a table's columns contain, from its beginning and, where that is quickly found, from all of it.

    For the arguments and the errors, see `read_table`.
    """
    if kind in _ARROW:
        return Evidence.of(sample_arrow(path, kind, _SAMPLE))
    unused: Counter[str] = Counter()
    rows = _rows(path, kind, column, text_blocks(path, unused, encoding, encoding_errors), unused)
    if kind == "json":  # it is in memory as a whole
        whole = [row for _, row in rows]
        return Evidence.of(whole[:: max(1, len(whole) // _SAMPLE)])
    small = path.stat().st_size <= _SMALL
    start = (row for _, row in islice(rows, None if small else _SAMPLE))
    return Evidence.of(chain(start, () if small or kind != "jsonl" else _later_objects(path, encoding)))


def is_plain_text(
    path: Path, kind: str, sample_by: str, column: str | None, encoding: str, encoding_errors: str
) -> bool:
    """Tell whether a file that is called .csv or .tsv is plain text.

    It is, if its first line is a sentence, and its commas are those of sentences. Where that is not clear, `sample_by`
    (any but `auto`) says that it is text, and `column` that it is a table.

    Raises: ValueError if it is not clear and neither is given.
    """
    if kind not in ("csv", "tsv"):
        return False
    lines = list(islice(lines_of(text_blocks(path, Counter(), encoding, encoding_errors)), LINES))
    dialect = dialect_of(lines, _separator(kind), column) if lines and not told_separator(lines[0]) else None
    if dialect is None or dialect.plain == "no":
        return False
    if dialect.plain == "maybe" and sample_by == "auto":
        raise ValueError(
            f"corpus: {path} may be a table or plain text: its first line hardly names columns, and its lines do not "
            "have the same number of cells. Accepted: a table whose first line names its columns, or text. For text, "
            "pass --sample_by line (each line is a paragraph); for a table without a header, --text_column with the "
            "number of the column, from 1."
        )
    return True


def _separator(kind: str) -> str | None:
    return "\t" if kind == "tsv" else None


def _rows(path: Path, kind: str, column: str | None, text: Iterable[str], counts: Counter[str]) -> Numbered:
    if kind == "jsonl":
        return json_lines(path, text)
    if kind == "json":
        return json_rows(path, text)
    return delimited_rows(path, text, _separator(kind), column, counts)


def _values(
    rows: Iterable[tuple[int, Record]], column: str, reader: ColumnReader, known: set[str]
) -> Iterator[tuple[int, Any]]:
    """Yield each row's number and what it has in the column, and count the characters of its other strings.

    `known` are the columns with text in the first rows.
    """
    characters: dict[str, int] = {}
    later: dict[str, list[str]] = {}  # of columns without text in the first rows
    for number, row in rows:
        for name, value in row.items():
            if type(value) is str and name != column:
                characters[name] = characters.get(name, 0) + len(value)
                if name not in known and value:
                    later.setdefault(name, []).append(value)
                    if len(later[name]) == _EXAMPLES:
                        known.add(name)
        yield number, value_at(row, column)
    for name, total in characters.items():
        reader.count_other(name, total, later.get(name, ()))


def _later_objects(path: Path, encoding: str) -> Iterator[Mapping[str, Any]]:
    """Yield objects from several places of a file of JSON lines; none, if it is compressed, or lines are not bytes."""
    with open_bytes(path) as file:
        if not isinstance(file, io.BufferedReader) or "\n".encode(encoding) != b"\n":
            return
        size = path.stat().st_size
        for number in range(1, _BLOCKS + 1):
            file.seek(max(0, number * size // _BLOCKS - _BLOCK))
            for line in file.read(_BLOCK).split(b"\n")[1:]:
                try:
                    row = json.loads(line.decode(encoding))
                except (ValueError, RecursionError):  # the line is cut; or damaged, which reading it will report
                    continue
                if isinstance(row, dict):
                    yield row


def choose_for_all(
    tables: Iterable[tuple[str, Evidence]],
    text_column: str | None,
    name: str,
    like: str | None = None,
    part: bool = False,
) -> Choice | None:
    """Return the column that contains the text in all of a corpus's tables; None if they have no rows.

    Args:
        tables: each table's name, and what its columns contain.
        text_column: as for `read_table`.
        name: the corpus's name.
        like: the column of the text that these tables belong to, which precedes any other.
        part: whether there are more columns than these tables show, in other files or in later rows.

    Raises: ValueError as `choose_column`, and if a table does not have that column, but other text.
    """
    found = [(table, evidence) for table, evidence in tables if evidence.rows]
    if not found:
        return None
    pooled = Evidence.pooled(evidence for _, evidence in found)
    if text_column is None and like is not None and pooled.has(like):
        return Choice(like, "as the corpus", pooled.rows)
    try:
        choice = choose_column(pooled, text_column, name, part)
    except ValueError:
        _refuse_different(found, name)
        raise
    for table, evidence in found:
        if choice.why != "named":
            evidence.refuse_other_text(choice, table)
    return choice


def _refuse_different(tables: Iterable[tuple[str, Evidence]], name: str) -> None:
    """Raise ValueError if the text of each table is clear, but not in one column."""
    columns: dict[str, str] = {}
    for table, evidence in tables:
        with contextlib.suppress(ValueError):
            columns.setdefault(choose_column(evidence, None, table).column, table)
    if len(columns) > 1:
        where = ", ".join(f"{column!r} in {table!r}" for column, table in columns.items())
        raise ValueError(
            f"text_column: the text of {name!r} is in different columns: {where}. Accepted: files with their text in "
            "one column. Pass --text_column with one of these to leave out files without it, or name the files that "
            "have the same columns, as a pattern."
        )
