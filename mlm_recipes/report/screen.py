"""What is printed while a model trains: where it cannot be, the run goes on."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


def say(text: str, error: bool = False) -> None:
    """Print a text, or an `error` to standard error.

    A pipe whose reader has gone, a terminal that was closed, a full disk behind `>`: none of them ends a run. It is
    said once on standard error, if that is still there, and nothing is printed any more.

    >>> say("epoch 1/1")
    epoch 1/1
    """
    stream: Any = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as failed:  # ValueError: it has been closed
        _silence(stream)
        if not error:
            say(f"mlm-recipes: error: nothing can be printed any more ({failed}). What was begun goes on.", error=True)


def take_any_letter() -> None:
    """Have letters that the console does not know (cp1252 on Windows, ASCII) printed as their numbers, not refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: Any) -> None:
    """Send what is printed from now on nowhere: what is still buffered would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
