"""Reads whole rows of a table, with the place of each, for tables whose columns have known names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from .file_formats import FORMATS, format_of
from .tables import sample_table, table_records
from .text_blocks import lines_of, text_blocks

#: The formats of tables: all but those of plain text.
TABLES = ("jsonl", "json", "parquet", "arrow", "csv", "tsv")

#: A row, and where it is, such as "pairs.csv, line 3".
Placed = tuple[str, Mapping[str, Any]]


def refuse_url(path: Path, option: str) -> None:
    """Raise ValueError for a URL, without showing it: as a Path it has one slash, and credentials would stay in it."""
    if re.match(r"https?:/", str(path)):
        raise ValueError(f"{option}: received a URL. Accepted: files on this machine. Download it, and name that.")


def placed_rows(
    path: Path, option: str, names: Collection[str], encoding: str = "utf-8", encoding_errors: str = "strict"
) -> list[Placed]:
    """Return the rows of a table, each with its place.

    Args:
        path: JSON lines, JSON, CSV, TSV, Parquet or Arrow, perhaps compressed.
        option: the option that names the file; error messages begin with it.
        names: the names that a column may have, in lower case. If one of them is in the first line of a CSV or TSV
            file, that line is the header.
        encoding, encoding_errors: as for a corpus.

    Raises: ValueError for a file that is missing, damaged or no table, or that has no rows.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "pairs.csv"
    >>> _ = path.write_text("text1,text2,score\\nto be,not to be,1\\n")
    >>> [(place.rpartition("/")[2], row) for place, row in placed_rows(path, "probe_pairs", ["score"])]
    [('pairs.csv, line 2', {'text1': 'to be', 'text2': 'not to be', 'score': '1'})]
    """
    refuse_url(path, option)
    if not path.is_file():
        raise ValueError(
            f"{option}: there is no file {str(path)!r}. Accepted: a table as JSON lines, JSON, CSV, TSV, Parquet or "
            "Arrow. Check the path for typos."
        )
    kind = format_of(path)
    if kind not in TABLES:
        endings = ", ".join(ending for each in TABLES for ending in FORMATS[each])
        raise ValueError(f"{option}: {str(path)!r} is no table. Accepted: a file that ends in {endings}. Rename it.")
    unit = {"jsonl": "line", "csv": "line", "tsv": "line", "json": "element"}.get(kind, "row")
    try:
        if kind in ("csv", "tsv"):
            columns = [_header(path, names, encoding, encoding_errors)]
        else:
            columns = [*sample_table(path, kind, None, encoding, encoding_errors).names]
        found = list(table_records(path, kind, columns or ["text"], encoding, encoding_errors))
    except ValueError as error:  # the readers of a corpus say so
        raise ValueError(f"{option}: {str(error).removeprefix('corpus: ')}") from error
    if not found:
        raise ValueError(f"{option}: {str(path)!r} has no rows. Accepted: a table with a header and rows. Fill it.")
    return [(f"{path}, {unit} {number}", row) for number, row in found]


def column_named(rows: list[Placed], names: Collection[str]) -> list[str]:
    """Return the columns of a table, as they are written there, that have one of `names` (in lower case).

    >>> column_named([("a.csv, line 2", {"Score": "1", "id": "a"})], ["score", "label"])
    ['Score']
    """
    columns = dict.fromkeys(name for _, row in rows for name in row)
    return [name for name in columns if name.lower() in names]


def fingerprint(items: Iterable[object]) -> str:
    """Return the sha256 of texts and numbers in their order; results of the same ones can be compared.

    >>> fingerprint([("to be", 1.0)])[:8], fingerprint([("to be", 2.0)])[:8]
    ('e225879a', 'ac416291')
    """
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item!a}\n".encode())
    return digest.hexdigest()


def _header(path: Path, names: Collection[str], encoding: str, encoding_errors: str) -> str:
    """Return a known name that the first line of a file has as a cell: so it is the header. Otherwise any of them."""
    first = next(islice(lines_of(text_blocks(path, Counter(), encoding, encoding_errors)), 1), "")
    for separator in ",;\t|":
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        if found := next((cell for cell in cells if cell.lower() in names), None):
            return found
    return next(iter(names))
