"""The files of a prepared corpus: their names, and how JSON is written so that a file is complete or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The first entry of a plan and of an index, and their version.
FORMAT, VERSION = "a corpus prepared by mlm-recipes", 1

PLAN, INDEX = "plan.json", "index.json"

#: The held-out paragraphs, as text, and the folder of the tokenizer.
HELD_OUT, TOKENIZER = "validation.arrow", "tokenizer"


def share_stem(share: int, shares: int) -> str:
    """Return how the names of a share's files begin; shares are counted from 1.

    >>> share_stem(3, 8)
    'share-3-of-8'
    """
    return f"share-{share}-of-{shares}"


def shard_stem(share: int, shares: int, number: int) -> str:
    """Return a shard's name without its ending; a share's shards are counted from 1.

    >>> shard_stem(3, 8, 12)
    'share-3-of-8-00012'
    """
    return f"{share_stem(share, shares)}-{number:05}"


def is_prepared(folder: Path) -> bool:
    """Tell whether a folder holds a prepared corpus, or one that is being prepared.

    >>> is_prepared(Path("nowhere"))
    False
    """
    return any(_says_so(folder / name) for name in (INDEX, PLAN))


def _says_so(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(200)
    except OSError:
        return False


def as_lines(content: Mapping[str, Any]) -> str:
    """Return JSON with one entry, or one part of a list of entries, in each line: for people who look into it.

    >>> print(as_lines({"rows": {"packing": True}, "shards": [{"rows": 3}, {"rows": 4}]}), end="")
    {
    "rows": {"packing": true},
    "shards": [
     {"rows": 3},
     {"rows": 4}
    ]
    }
    """
    parts = []
    for name, value in content.items():
        inner = value.items() if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()) else ()
        written = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            written = "[\n " + ",\n ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n]"
        elif inner:
            lines = [f"{json.dumps(key)}: {json.dumps(each, ensure_ascii=False)}" for key, each in inner]
            written = "{\n " + ",\n ".join(lines) + "\n}"
        parts.append(f"{json.dumps(name)}: {written}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write_text(path: Path, text: str) -> None:
    """Write a file that has its name only when it is complete and on the disk."""
    aside = path.with_name(f".making-{path.name}-{os.getpid()}")
    with aside.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file contains. Raises: ValueError for anything but a JSON object."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, str(error)) from error
    if not isinstance(content, dict):
        raise unreadable(path, f"it contains {type(content).__name__}")
    return content


def unreadable(path: str | Path, why: str) -> ValueError:
    """Return the refusal of a file that is not what `mlm-recipes prepare` wrote."""
    return ValueError(
        f"corpus: {str(path)!r} does not describe a prepared corpus ({why}). Accepted: the folder that `mlm-recipes "
        "prepare` wrote, unchanged. Copy it again, or prepare the corpus again."
    )
