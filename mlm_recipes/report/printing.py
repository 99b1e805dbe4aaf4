"""Printing while a model trains: if it fails, the run continues."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

#: The exit code of a command that a shell says was ended by SIGPIPE.
READER_LEFT = 128 + 13


def say(text: str, error: bool = False) -> None:
    """Print a text, or an `error` to standard error.

    A broken pipe, a closed terminal or a full disk behind `>` does not end a run. It is reported once on standard
    error, if that still works, and nothing more is printed.

    >>> say("epoch 1/1")
    epoch 1/1
    """
    stream: Any = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as failed:  # ValueError: the stream is closed
        _silence(stream)
        if not error:
            say(f"mlm-recipes: error: nothing more can be printed ({failed}). The command continues.", error=True)


def reader_has_left(error: BaseException) -> bool:
    """Tell whether `error` says that standard output is a pipe that nobody reads any more; if so, print no more."""
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):  # Windows has none
        return False
    with contextlib.suppress(OSError, ValueError):
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)  # an error is reported without being asked for
        if output.poll(0):
            _silence(sys.stdout)
            return True
    return False  # it was another pipe


def take_any_letter() -> None:
    """Print characters that the console cannot encode (cp1252 on Windows, ASCII) as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: Any) -> None:
    """Discard what is printed from now on: what is still buffered would fail again when Python exits."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
