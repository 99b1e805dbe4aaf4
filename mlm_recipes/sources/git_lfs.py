"""Files that git-lfs has not fetched: a clone without it holds a short text in the place of each large file."""

from __future__ import annotations

from pathlib import Path

_FIRST_BYTES = b"version https://git-lfs"


def is_pointer(path: Path) -> bool:
    """Tell whether a file is only git-lfs's pointer to the real one.

    >>> is_pointer(Path(__file__))
    False
    """
    with path.open("rb") as file:
        return file.read(len(_FIRST_BYTES)) == _FIRST_BYTES
