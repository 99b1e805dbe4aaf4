"""Reads one column of a Parquet or Arrow file, and counts the characters of the others."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .field_paths import MISSING, value_at
from .text_blocks import open_bytes

_BATCH = 1_000

#: How many values of a column are kept.
_EXAMPLES = 50

#: A sample is of this many parts of a file, or of all rows of a Parquet file with at most so many.
_PARTS, _SMALL = 8, 20_000


def arrow_values(
    path: Path, kind: str, column: str, count: Callable[[str, int, Iterable[str]], None], others: bool = True
) -> Iterator[tuple[int, Any]]:
    """Yield what each row has in a column, with the row's number from 1; one batch at a time is in memory.

    Args:
        kind: `parquet` or `arrow`.
        column: its name, or a path into a column with fields.
        count: is told the name and the characters of each other column of strings, and once some of its values.
        others: whether these are read.

    Raises: ValueError for a damaged file, and for bytes that are not UTF-8, with the row.
    """
    with _opened(path, kind) as (batches, schema):
        top = _top(schema, column)
        strings = [field.name for field in schema if _is_string(field.type)] if others or top is None else []
        examples: dict[str, list[str]] = {name: [] for name in strings}
        done = 0
        for batch in batches(columns=list(dict.fromkeys([*([top] if top else []), *strings])), batch_size=_BATCH):
            for name in strings:
                if name != top:
                    characters = _characters(batch.column(name))
                    some = batch.column(name).drop_null()[:_EXAMPLES].to_pylist() if not examples[name] else []
                    examples[name] += some if characters else []
                    count(name, characters, examples[name] if some else ())
            if top is None:
                yield from ((number, MISSING) for number in range(done + 1, done + batch.num_rows + 1))
            else:
                values = _python(batch.select([top]), path, done)
                yield from enumerate((value_at(row, column) for row in values), start=done + 1)
            done += batch.num_rows


def arrow_records(path: Path, kind: str, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row of a file with its number from 1, with these columns only: names, or paths into them."""
    with _opened(path, kind) as (batches, schema):
        tops = [top for top in dict.fromkeys(_top(schema, column) for column in columns) if top is not None]
        done = 0
        for batch in batches(columns=tops, batch_size=_BATCH):
            yield from enumerate(_python(batch, path, done), start=done + 1)
            done += batch.num_rows


def sample_arrow(path: Path, kind: str, rows: int) -> list[dict[str, Any]]:
    """Return some rows from the beginning, the middle and the end of a file, with all columns that contain strings."""
    with _opened(path, kind, mapped=True) as (batches, schema):
        names = [field.name for field in schema if has_strings(field.type)]
        empty = dict.fromkeys(schema.names)
        if not names:  # batches without columns have no rows
            return [empty for batch in _spread(batches, schema.names[:1], rows) for _ in range(batch.num_rows)]
        found = []
        for batch in _spread(batches, names, rows):
            found += [empty | row for row in _python(batch, path, 0)]
        return found


def has_strings(kind: pa.DataType) -> bool:
    """Tell whether a type is a string, or has strings within it.

    >>> has_strings(pa.list_(pa.struct({"q": pa.string()}))), has_strings(pa.list_(pa.int64()))
    (True, False)
    """
    if pa.types.is_struct(kind):
        return any(has_strings(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return has_strings(kind.value_type)
    return _is_string(kind)


def _top(schema: pa.Schema, column: str) -> str | None:
    """Return the column of the file that `column` is, or is within."""
    parts = column.split(".")
    names = (".".join(parts[:number]) for number in range(len(parts), 0, -1))
    return next((name for name in names if name in schema.names), None)


def _characters(column: Any) -> int:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return int(pc.sum(pc.utf8_length(column)).as_py() or 0)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not UTF-8: this is not the text's column
        return 0


def _python(batch: Any, path: Path, done: int) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"corpus: {path}, row {done + _first_undecodable(batch)}: not UTF-8 (byte "
            f"0x{error.object[error.start]:02x}). Accepted: strings in UTF-8. Write the file again, or pass "
            "--text_column if a different column contains the text."
        ) from None


def _first_undecodable(batch: Any) -> int:
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


class _Batches:
    """The batches of an opened file: all in order, or some by their numbers."""

    def __init__(self, file: Any, kind: str) -> None:
        self.parquet, self.stream, self.file, self._source = None, None, None, file
        if kind == "parquet":
            self.parquet = pq.ParquetFile(file)
            self.schema = self.parquet.schema_arrow
            return
        try:
            self.stream = pa.ipc.open_stream(file)  # as written by datasets
        except pa.ArrowInvalid:
            file.seek(0)
            self.file = pa.ipc.open_file(file)
        opened: Any = self.stream or self.file
        self.schema = opened.schema

    def __call__(self, columns: list[str], batch_size: int) -> Iterator[Any]:
        if self.parquet is not None:
            yield from self.parquet.iter_batches(columns=columns, batch_size=batch_size)
        else:
            yield from (batch.select(columns) for batch in self.arrow())

    def rewind(self) -> None:
        """Begin a stream again."""
        self._source.seek(0)
        self.stream = pa.ipc.open_stream(self._source)

    def arrow(self) -> Iterator[Any]:
        """Yield the batches of an Arrow file."""
        if self.stream is not None:
            yield from self.stream
        else:
            assert self.file is not None
            yield from (self.file.get_batch(number) for number in range(self.file.num_record_batches))


def _spread(batches: _Batches, names: list[str], rows: int) -> Iterator[Any]:
    """Yield parts of a file, about `rows` rows together, from its beginning, its end and between."""
    if batches.parquet is not None:
        about = batches.parquet.metadata
        if about.num_rows <= _SMALL:
            whole = batches.parquet.read(columns=names)
            yield whole.take(pa.array(_evenly(whole.num_rows, rows), pa.int64()))
            return
        groups = _evenly(about.num_row_groups, _PARTS)
        parts = (batches.parquet.iter_batches(rows, row_groups=[group], columns=names) for group in groups)
        found = (next(part) for part in parts)
    elif batches.file is not None:
        found = (batches.file.get_batch(number) for number in _evenly(batches.file.num_record_batches, _PARTS))
    else:
        number = sum(1 for _ in batches.arrow())
        batches.rewind()
        chosen = set(_evenly(number, _PARTS))
        found = (batch for number, batch in enumerate(batches.arrow()) if number in chosen)
    for part in found:
        if part.num_rows:
            yield part.select(names).take(pa.array(_evenly(part.num_rows, rows // _PARTS)))


def _evenly(number: int, parts: int) -> list[int]:
    """Return at most `parts` of the numbers below `number`, evenly spaced, the first and the last among them."""
    parts = min(parts, number)
    return sorted({round(k * (number - 1) / max(1, parts - 1)) for k in range(parts)})


@contextlib.contextmanager
def _opened(path: Path, kind: str, mapped: bool = False) -> Iterator[tuple[_Batches, pa.Schema]]:
    """Open a file; `mapped` into memory, if it is not compressed, so that batches are found without being read."""
    with open_bytes(path) as file:
        try:
            plain = mapped and isinstance(file, io.BufferedReader)
            batches = _Batches(pa.memory_map(str(path)) if plain else file, kind)
            yield batches, batches.schema
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"corpus: {path} cannot be read as {kind} ({str(error).splitlines()[0]}). Accepted: a complete "
                "file. Write or download it again."
            ) from error
