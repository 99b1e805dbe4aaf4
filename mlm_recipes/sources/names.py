"""Guesses what a name means: a path, a hub id, or a typing error."""

from __future__ import annotations

import difflib
import os
from collections.abc import Container, Iterable
from itertools import chain, count
from pathlib import Path

STRUCTURED = {".bin", ".csv", ".gz", ".json", ".jsonl", ".parquet", ".pdf", ".tsv", ".zip", ".zst"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known word, or `""` if none is close.

    >>> did_you_mean("learning_rat", ["learning_rate", "seed"])
    " Did you mean 'learning_rate'?"
    >>> did_you_mean("xyz", ["learning_rate", "seed"])
    ''
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def unlike(name: str, taken: Container[str]) -> str:
    """Return a name that no other has; not a path or a URL, since reports are meant to be shared.

    >>> unlike("notes", ["notes", "notes (2)"]), unlike("letters", ["notes"])
    ('notes (3)', 'letters')
    """
    names = chain([name], (f"{name} ({number})" for number in count(2)))
    return next(each for each in names if each not in taken)


def looks_like_path(name: str) -> bool:
    """Tell whether `name` was meant as a file or folder rather than a hub id.

    >>> [looks_like_path(name) for name in ("notes.txt", "./notes", "org/name", "bert-base-uncased")]
    [True, True, False, False]
    """
    starts = name.startswith((".", "~", "/")) or name.endswith("/") or (os.sep != "/" and os.sep in name)
    return starts or name.count("/") > 1 or Path(name).suffix in STRUCTURED | {".txt", ".md", ".text"}
