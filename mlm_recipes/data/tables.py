"""Reads the texts in one column of a table: JSON lines, JSON, CSV, TSV, Parquet or Arrow."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..metrics_file import TEXT_COLUMN
from .text_blocks import lines_of, open_bytes, text_blocks

Record = Mapping[str, Any]

#: How many rows are examined to find the column that contains the text.
_SAMPLE = 200


def read_table(
    path: Path,
    kind: str,
    counts: Counter[str],
    text_column: str | None = None,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    """Yield the texts of a table's rows, in order.

    Args:
        kind: `jsonl`, `json`, `csv`, `tsv`, `parquet` or `arrow`.
        counts: gets `rows_without_text`, and `text_column: NAME` for the column that is read.
        text_column: by default `text`, or the column with the longest strings if there is none.
        encoding, encoding_errors, position: as for `mlm_recipes.data.text_blocks.text_blocks`; they do not apply to
            Parquet and Arrow.

    Raises: ValueError for a file that is damaged (with the line or row, if known), a missing column, or a table without
    a column of text.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.jsonl"
    >>> _ = path.write_text('{"id": "a", "body": "to be or not"}\\n{"id": "b", "body": null}\\n')
    >>> counts = Counter()
    >>> list(read_table(path, "jsonl", counts)), counts["rows_without_text"]
    (['to be or not'], 1)
    """
    if kind in ("parquet", "arrow"):
        rows = _arrow_rows(path, kind, text_column)
    else:
        text = text_blocks(path, counts, encoding, encoding_errors, position)
        rows = {"jsonl": _json_lines, "json": _json, "csv": _csv, "tsv": _tsv}[kind](path, text)
    start = list(islice(rows, _SAMPLE))
    if not start:
        return
    # Rows of JSON may have different keys: the column that was named may come later.
    column = text_column if text_column is not None and kind in ("json", "jsonl") else None
    column = column or choose_column(start, text_column, str(path))
    counts[f"{TEXT_COLUMN}{column}"] += 1
    missing, found = 0, False
    for number, row in enumerate(chain(start, rows), start=1):
        value, found = row.get(column), found or column in row
        if value is None or (isinstance(value, str) and not value.strip()):
            missing += 1
        elif isinstance(value, str):
            whole = value.encode("utf-8", "replace").decode()  # JSON can hold half of a surrogate pair
            counts["undecodable_replaced"] += whole != value
            yield whole
        else:
            raise ValueError(
                f"text_column: {path}, row {number}: the column {column!r} contains {type(value).__name__} "
                f"({str(value)[:40]!r}). Accepted: a column of strings. Pass --text_column with the one that contains "
                "the text."
            )
    if not found:
        choose_column(start, text_column, str(path))  # raises
    counts["rows_without_text"] += missing


def choose_column(rows: Iterable[Record], text_column: str | None, name: str) -> str:
    """Return the column that contains the text: `text_column`, or `text`, or the one with the longest strings.

    Raises: ValueError if there is none.

    >>> choose_column([{"id": "a", "body": "to be or not"}], None, "notes.jsonl")
    'body'
    """
    rows = list(rows)
    columns = dict.fromkeys(column for row in rows for column in row)
    if text_column is not None:
        if text_column not in columns:
            raise ValueError(
                f"text_column: {name!r} has no column {text_column!r}. Accepted: one of "
                f"{', '.join(map(str, columns))}. Pass --text_column with the one that contains the text."
            )
        return text_column
    if "text" in columns and all(isinstance(row.get("text"), str | None) for row in rows):
        return "text"
    lengths = {
        column: sum(len(value) for row in rows if isinstance(value := row.get(column), str)) for column in columns
    }
    best = max(lengths, key=lambda column: lengths[column], default=None)
    if best is None or not lengths[best]:
        raise ValueError(
            f"text_column: none of the columns of {name!r} contains text "
            f"({', '.join(map(str, columns)) or 'it has none'}). "
            "Accepted: a table with a column of strings. Name a different file."
        )
    return best


def _json_lines(path: Path, text: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"corpus: {path}, line {number}: not JSON ({error}). Accepted: one object per line, such as "
                    '{"text": "..."}. Correct or remove that line.'
                ) from None
            yield _object(row, f"{path}, line {number}")


def _json(path: Path, text: Iterable[str]) -> Iterator[Record]:
    whole = "".join(text)
    try:
        found = json.loads(whole)
    except (ValueError, RecursionError) as error:
        if _parses(whole.lstrip().split("\n", 1)[0]):
            yield from _json_lines(path, [whole])  # JSON lines with the ending .json
            return
        raise ValueError(
            f"corpus: {path}: not JSON ({error}). Accepted: an array of objects, or one object per line. Correct it."
        ) from None
    if isinstance(found, dict):  # {"data": [{...}, ...]}, as in some exports; or a single document
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        texts = [value for value in found.values() if isinstance(value, str) and len(value) > 200]
        found = lists[0] if len(lists) == 1 and not texts and "text" not in found else [found]
    if not isinstance(found, list):
        found = [found]
    for number, row in enumerate(found, start=1):
        yield {"text": row} if isinstance(row, str) else _object(row, f"{path}, element {number}")


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(row: Any, where: str) -> Record:
    if not isinstance(row, dict):
        raise ValueError(
            f"corpus: {where}: contains {type(row).__name__}, not an object. Accepted: objects such as "
            '{"text": "..."}. If it is plain text, rename the file to end in .txt.'
        )
    return row


def _csv(path: Path, text: Iterable[str], delimiter: str | None = None) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)
    lines = lines_of(text)
    header = next(lines, "")
    if delimiter is None:  # in locales with a decimal comma, semicolons separate the cells
        delimiter = max(",;\t", key=header.count)
    reader = csv.reader((f"{line}\n" for line in chain([header], lines)), delimiter=delimiter, strict=True)
    begins = 1  # the line on which a row begins; with an unclosed quote, a row covers many lines
    try:
        columns = next(reader)
        begins = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(columns):
                raise csv.Error(f"{len(cells)} cells under {len(columns)} column names")
            if cells:
                yield dict(zip_longest(columns, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"corpus: {path}, line {begins}: {error}. Accepted: a table whose first line names its columns, "
            "with quotes around cells that contain the separator. Correct that line; for plain text, rename the file "
            "to end in .txt."
        ) from None


def _tsv(path: Path, text: Iterable[str]) -> Iterator[Record]:
    return _csv(path, text, delimiter="\t")


def _arrow_rows(path: Path, kind: str, text_column: str | None) -> Iterator[Record]:
    """Yield rows with the columns of strings; one batch at a time is in memory."""
    with open_bytes(path) as file:
        try:
            if kind == "parquet":
                table = pq.ParquetFile(file)
                batches, schema = table.iter_batches, table.schema_arrow
            else:
                batches, schema = _arrow_batches(file)
            strings = [field.name for field in schema if _is_string(field.type)]
            if text_column is not None and text_column in schema.names:
                strings = [text_column]
            if not strings and len(schema.names):
                strings = [schema.names[0]]  # read_table then raises the error
            done = 0
            for batch in batches(columns=strings, batch_size=1000):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"corpus: {path}, row {done + _first_undecodable(batch)}: not UTF-8 (byte "
                        f"0x{error.object[error.start]:02x}). Accepted: strings in UTF-8. Write the file again, or "
                        "pass --text_column if a different column contains the text."
                    ) from None
                done += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"corpus: {path} cannot be read as {kind} ({str(error).splitlines()[0]}). Accepted: a complete "
                "file. Write or download it again."
            ) from error


def _first_undecodable(batch: pa.RecordBatch) -> int:
    """Return the number, from 1, of the first row whose bytes are not UTF-8."""
    for number in range(batch.num_rows):
        try:
            batch.slice(number, 1).to_pylist()
        except UnicodeDecodeError:
            return number + 1
    raise AssertionError("every row is UTF-8")


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):  # a category in pandas
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _arrow_batches(file: Any) -> tuple[Callable[..., Iterator[Any]], pa.Schema]:
    try:
        reader = pa.ipc.open_stream(file)  # as written by datasets
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        found: Iterable[Any] = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return lambda columns, batch_size: (batch.select(columns) for batch in found), reader.schema
    return lambda columns, batch_size: (batch.select(columns) for batch in reader), reader.schema
