"""What a run leaves for people to read: the last screen, and the files drawn from its metrics; imports no torch."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..sources.escaping import in_all, one_line, shell
from .before_after_table import LABELS, NO_CHANGE, comparison, join_top, prompt, prompt_rows
from .model_card import card
from .page import page
from .wording import FEW, count, note

#: Cells that a terminal of 80 columns has no room for in one line.
_NARROW = {NO_CHANGE: "no measurable\nchange", "word frequencies alone": "word\nfrequencies\nalone"}

#: What is drawn from metrics.json, and by what.
FILES: dict[str, Callable[[dict[str, Any]], str]] = {"report.html": page, "README.md": card}


def write(folder: str | Path, names: Iterable[str] = ("report.html", "README.md")) -> list[Path]:
    """Draw report.html and README.md (the model card) of a run from its metrics.json, or those that `names` says.

    Returns the paths written. Raises FileNotFoundError where that, or the recipe.yaml the card speaks of, is missing;
    ValueError for a metrics.json that is not what a run writes.
    """
    folder = Path(folder)
    metrics = read_metrics(folder)
    written = []
    for name in names:
        (folder / name).write_text(FILES[name](metrics), encoding="utf-8")
        written.append(folder / name)
    return written


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Return what a finished run's metrics.json holds, its strings made harmless to look at.

    Raises: FileNotFoundError for a folder that is not a finished run's; ValueError for a metrics.json that is not one.
    """
    folder = Path(folder)
    for name in ("metrics.json", "recipe.yaml"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"report: {str(folder)!r} has no {name}. Accepted: the folder of a finished run, such as "
                "runs/meditations. Run `mlm-recipes train` first."
            )
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        missing = {"corpus", "before", "after", "gain", "train", "versions"} - metrics.keys()
        failed = {str(entry["what"]): entry["why"] for entry in metrics.get("not_made", [])}
    except (ValueError, AttributeError, KeyError, TypeError):
        missing, failed = {"everything"}, {}
    if missing == {"gain"} and failed:
        raise ValueError(
            f"report: {str(folder / 'metrics.json')!r} has before and after but no comparison of the two, which "
            f"failed: {one_line('; '.join(map(': '.join, failed.items())))}. Accepted: the metrics of a run that was "
            f"compared. `mlm-recipes evaluate {folder}` measures its model again."
        )
    if missing:
        raise ValueError(
            f"report: {str(folder / 'metrics.json')!r} is not what a run writes. Accepted: JSON as in docs/metrics.md. "
            "Run `mlm-recipes train` again, or take the file from a copy."
        )
    return cast(dict[str, Any], in_all(metrics, one_line))


def summary(metrics: dict[str, Any], folder: Path | None = None) -> str:
    """Return the last screen of a run as text: the table, the prompts, what it means, and where everything lies."""
    metrics = in_all(metrics, one_line)
    console = _console()
    if "evaluation" in metrics:
        _print_evaluation(metrics, console)
    else:
        rows = [tuple(_NARROW.get(cell, cell) for cell in row) for row in comparison(metrics)]
        _print_table(console, rows, right=range(1, len(rows[0])))
        for row in prompt_rows(metrics):
            _print_prompt(console, row, ("before", "after"))
        console.print()
        console.print(Text(note(metrics) if "gain" in metrics else "Before and after could not be compared."))
    if folder is not None:
        place = one_line(str(folder))
        files = [name for name in ("recipe.yaml", "metrics.json", *FILES) if (folder / name).is_file()]
        console.print(Text(f"\nEverything is in {place}: {', '.join(['the model', *files])}."))
        prompts = metrics["after"]["fill_mask"]
        first = prompts[0]["prompt"] if prompts else "[MASK]"
        console.print(Text(f"Try it:  {command()} fill {place} {shell(first)}"))
    return _text(console)


def table(rows: list[tuple[str, ...]], right: range = range(0)) -> str:
    """Return a table as text; the first row is its header, the columns in `right` are set flush right."""
    console = _console()
    _print_table(console, rows, right)
    return _text(console)


def wrapped(text: str) -> str:
    """Return a text broken into lines as wide as a table may be.

    >>> max(len(line) for line in wrapped("word " * 40).splitlines()) <= 110
    True
    """
    console = _console()
    console.print(Text(text))
    return _text(console)


def _console() -> Console:
    return Console(file=io.StringIO(), width=max(72, min(110, shutil.get_terminal_size().columns)), highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def command() -> str:
    """Return how `mlm-recipes` is to be typed here.

    make's virtual environment is not on everybody's path, and a checkout need not be installed.
    """
    if shutil.which("mlm-recipes"):
        return "mlm-recipes"
    beside = Path(sys.executable).with_name("mlm-recipes.exe" if sys.platform == "win32" else "mlm-recipes")
    if not beside.exists():
        return "python -m mlm_recipes"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def _print_evaluation(metrics: dict[str, Any], console: Console) -> None:
    found, words = metrics["evaluation"], metrics["corpus"]["word_frequencies"]
    rows: list[tuple[str, ...]] = []
    rows.append((f"held-out text of {metrics['corpus']['name']}", str(found["model"]), "word frequencies alone"))
    for name, label in LABELS.items():
        rows.append((label.name, label.value(found[name]), label.value(words[name]) if name in words else ""))
    rows.append(("masked tokens", f"{found['masked_tokens']:,} in {count(found['draws'], 'draw')}", ""))
    if found["distinct_tokens"] < FEW:
        rows.append((f"only {count(found['distinct_tokens'], 'masked token')}: a hint, not a result", "", ""))
    if "general" in found:
        rows.append((metrics["corpus"]["general"], "", ""))
        rows += [(label.name, label.value(found["general"][name]), "") for name, label in LABELS.items()]
    _print_table(console, rows, right=range(1, 3))
    for entry in found["fill_mask"]:
        _print_prompt(console, prompt(entry) | {"first": join_top(entry["top"])}, ("first",))
    console.print()
    if found["head_initialised"]:
        missing = count(len(found["head_initialised"]), "weight")
        console.print(
            Text(
                f"This model came without a trained masked-language-modelling head: {missing} started from random "
                "values, and its figures are a guess's."
            )
        )
    if found["random_weights"]:
        console.print(Text("This model has random weights: it has learned nothing yet, and its figures are a guess's."))


def _print_prompt(console: Console, row: dict[str, str], what: tuple[str, ...]) -> None:
    answer = f"  ({row['answer']})" if row["answer"] else ""
    console.print(Text(": ".join(filter(None, (row["chosen"], row["prompt"]))) + answer))
    for name in what:
        console.print(Text(f"  {name:6}  {row[name]}"))


def _print_table(console: Console, rows: list[tuple[str, ...]], right: range = range(0)) -> None:
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, title in enumerate(rows[0]):
        drawn.add_column(Text(title), justify="right" if index in right else "left", overflow="fold")
    for row in rows[1:]:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: no cell is read as rich's markup
    console.print(drawn)
    console.print()
