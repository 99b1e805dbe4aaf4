"""Reads the rows of JSON lines, or of a JSON file: an array, or an object that contains the records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .split_files import NAMES
from .text_blocks import lines_of

#: A label of a row: a number, or letters and a number that are not the name of a column.
_IDENTIFIER = re.compile(r"[\w.:/-]*\d")

#: Labels that are no rows: `test` is not read together with `train`.
_SPLITS = {name for names in NAMES.values() for name in names}

Numbered = Iterator[tuple[int, Mapping[str, Any]]]


def json_lines(path: Path, text: Iterable[str]) -> Numbered:
    """Yield the object on each line, with the line's number; a string is a row with it as `text`.

    Raises: ValueError for a line that is neither.

    >>> list(json_lines(Path("a.jsonl"), ['{"text": "to be"}\\n']))
    [(1, {'text': 'to be'})]
    """
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"corpus: {path}, line {number}: not JSON ({error}). Accepted: one object per line, such as "
                    '{"text": "..."}. Correct or remove that line.'
                ) from None
            yield number, {"text": row} if isinstance(row, str) else _object(row, f"{path}, line {number}")


def json_rows(path: Path, text: Iterable[str]) -> Numbered:
    """Yield the elements of a JSON array with their numbers, from 1; an object is one row.

    A table that pandas wrote as an object, of rows by their labels, of columns, or of both apart, is read as its rows,
    and so is an object of texts by their identifiers, such as d1, d2, ... A file of JSON lines that ends in .json is
    read as such.

    Raises: ValueError for anything else.

    >>> list(json_rows(Path("a.json"), ['["to be", "or not"]']))
    [(1, {'text': 'to be'}), (2, {'text': 'or not'})]
    """
    whole = "".join(text)
    try:
        found = json.loads(whole)
    except (ValueError, RecursionError) as error:
        if _parses(whole.lstrip().split("\n", 1)[0]):
            yield from json_lines(path, [whole])
            return
        raise ValueError(
            f"corpus: {path}: not JSON ({error}). Accepted: an array of objects, or one object per line. Correct it."
        ) from None
    for number, row in enumerate(_records(found), start=1):
        yield number, {"text": row} if isinstance(row, str) else _object(row, f"{path}, element {number}")


def _records(found: Any) -> list[Any]:
    if isinstance(found, list):
        return found
    inner = list(found.values()) if isinstance(found, dict) and not _SPLITS.issuperset(found) else []
    if len(inner) > 1 and all(isinstance(value, dict) for value in inner) and _alike(inner):
        if all(label.isdecimal() for label in inner[0]):  # columns, each by the labels of the rows
            return [{name: column[label] for name, column in found.items()} for label in inner[0]]
        return inner
    if isinstance(found, dict) and found.keys() in ({"columns", "index", "data"}, {"columns", "data"}):
        return [dict(zip(map(str, found["columns"]), row, strict=False)) for row in found["data"]]
    if len(inner) > 2 and all(isinstance(value, str) for value in inner) and all(map(_IDENTIFIER.fullmatch, found)):
        return inner
    return [found]


def _alike(objects: list[dict[str, Any]]) -> bool:
    """Tell whether objects have the same keys, or, if there are more than two, at least one key in common."""
    common = set.intersection(*map(set, objects))
    return all(common == each.keys() for each in objects) or (len(objects) > 2 and bool(common))


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(
            f"corpus: {where}: contains {type(row).__name__}, not an object. Accepted: objects such as "
            '{"text": "..."}, or strings. Write each record as one.'
        )
    return row
