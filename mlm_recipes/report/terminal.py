"""Text for a terminal: tables and paragraphs that fit its width; imports no torch."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text


def table(rows: list[tuple[str, ...]], right: range = range(0)) -> str:
    """Return a table as text; the first row is its header, the columns in `right` are set flush right."""
    console = make_console()
    print_table(console, rows, right)
    return text_of(console)


def wrapped(text: str) -> str:
    """Return a text wrapped to the width of a table.

    >>> max(len(line) for line in wrapped("word " * 40).splitlines()) <= 110
    True
    """
    console = make_console()
    console.print(Text(text))
    return text_of(console)


def make_console() -> Console:
    """Return a console as wide as the terminal, from 72 to 110 columns, that writes to memory."""
    return Console(file=io.StringIO(), width=max(72, min(110, shutil.get_terminal_size().columns)), highlight=False)


def text_of(console: Console) -> str:
    """Return what was printed to a console from `make_console`."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def command() -> str:
    """Return how to call `mlm-recipes` on this machine.

    make's virtual environment may not be on PATH, and a checkout may not be installed.
    """
    if shutil.which("mlm-recipes"):
        return "mlm-recipes"
    beside = Path(sys.executable).with_name("mlm-recipes.exe" if sys.platform == "win32" else "mlm-recipes")
    if not beside.exists():
        return "python -m mlm_recipes"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def print_table(console: Console, rows: list[tuple[str, ...]], right: range = range(0)) -> None:
    """Print a table; the first row is its header, the columns in `right` are flush right."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, title in enumerate(rows[0]):
        drawn.add_column(Text(title), justify="right" if index in right else "left", overflow="fold")
    for row in rows[1:]:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: cells are not parsed as rich markup
    console.print(drawn)
    console.print()
