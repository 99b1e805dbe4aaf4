"""Notices a table whose name says that it is text: JSON lines, TSV or CSV in a file called .txt."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from .delimited import LINES, dialect_of
from .text_blocks import lines_of, text_blocks

#: Fewer lines than this may be alike by chance.
_FEWEST = 20


def refuse_table(path: Path, sample_by: str, encoding: str, encoding_errors: str) -> None:
    """Raise ValueError if the beginning of a text file is that of a table, unless `sample_by` says how it is divided.

    Its field names, labels and numbers would be trained on as if they were text.
    """
    if sample_by != "auto":
        return
    lines = list(islice(lines_of(text_blocks(path, Counter(), encoding, encoding_errors)), LINES))
    ending = table_ending(lines)
    if ending is not None:
        raise ValueError(
            f"corpus: {path} is called text, but its lines are those of a table ({ending}). Accepted: text, or a table "
            f"whose name says so. Rename it to end in {ending}, and one column is read; to train on the lines as they "
            "are, pass --sample_by line."
        )


def table_ending(lines: Sequence[str]) -> str | None:
    """Return the ending that a file with these first lines should have; None if they may be text.

    They are JSON lines if each is an object; JSON if they begin with an object or an array of objects; TSV if each has
    the same number of tabs, between cells that are not empty; and CSV if all have as many cells as the first, which
    names a column of numbers, dates or the like.

    >>> table_ending(['{"text": "to be"}', '{"text": "or not"}']), table_ending(["To be, or not."])
    ('.jsonl', None)
    """
    lines = [line for line in lines if line.strip()]
    if len(lines) > 1 and all(map(_is_object, lines)):
        return ".jsonl"
    if _begins_json(lines):
        return ".json"
    if len(lines) < _FEWEST:
        return None
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and sum(map(_has_two_cells, lines)) > 0.9 * len(lines):
        return ".tsv"
    found = dialect_of(lines)
    if not (found.header and found.keys and found.quoted and len(found.columns) > 1):
        return None
    try:
        widths = {len(row) for row in csv.reader(lines[:-1], delimiter=found.separator)}  # the last may be incomplete
    except csv.Error:
        return None
    return ".csv" if widths == {len(found.columns)} else None


def _is_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _begins_json(lines: Sequence[str]) -> bool:
    """Tell whether lines are JSON, or, as it is indented, begin with brackets alone and then the name of a field."""
    if not lines or lines[0].lstrip()[:1] not in ("[", "{"):
        return False
    if len(lines) == 1:
        try:
            found = json.loads(lines[0])
        except (ValueError, RecursionError):
            return False
        return isinstance(found, dict) or (isinstance(found, list) and bool(found) and isinstance(found[0], dict))
    begins = "".join(line.strip() for line in lines[:4])
    return re.match(r'[\[{]\s*(\[\s*)?\{?\s*"(?:[^"\\]|\\.)*"\s*:', begins) is not None


def _has_two_cells(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) > 1 and bool(cells[0].strip() and cells[1].strip())
