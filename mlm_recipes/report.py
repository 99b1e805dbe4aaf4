"""What a run leaves for people to read: the last screen, report.html and the model card; imports no torch."""

from __future__ import annotations

import io
import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .escaping import in_all, markdown, one_line
from .sentences import FEW, count, measured_tokens, note

#: The verdict of an interval that includes zero.
NO_CHANGE = "no measurable change"

#: Cells that a terminal of 80 columns has no room for in one line.
_NARROW = {NO_CHANGE: "no measurable\nchange", "word frequencies alone": "word\nfrequencies\nalone"}

FILES = {"report.html": "report.html", "README.md": "model_card.md"}


def write(folder: str | Path) -> list[Path]:
    """Draw report.html and README.md (the model card) of a run from its metrics.json.

    Returns the paths written. Raises FileNotFoundError where that, or the recipe.yaml the card speaks of, is missing.
    """
    folder = Path(folder)
    for name in ("metrics.json", "recipe.yaml"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"report: {str(folder)!r} has no {name}. Accepted: the folder of a finished run, such as "
                "runs/meditations. Run `mlm-recipes train` first."
            )
    metrics = in_all(json.loads((folder / "metrics.json").read_text("utf-8")), one_line)
    written = []
    for name, template in FILES.items():
        environment = Environment(
            loader=PackageLoader("mlm_recipes"),
            autoescape=select_autoescape(),
            # What Jinja's escaping is for HTML: applied to whatever a template prints, so that none can forget it.
            finalize=markdown if template.endswith(".md") else None,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        text = environment.get_template(template).render(
            metrics=metrics, rows=comparison(metrics), prompts=prompt_rows(metrics), note=note(metrics)
        )
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def comparison(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the before/after table: a header and a row a measure, of held-out text and then of ordinary language.

    >>> measure = {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.5, "masked_tokens": 500}
    >>> words = {"word_frequencies": {"loss": 3.0, "accuracy": 0.1}}
    >>> for row in comparison({"corpus": words, "before": measure, "after": measure | {"loss": 1.5}}):
    ...     print(*row, sep=" | ")
    held-out text | before | after | change | word frequencies alone
    loss (nats) | 2.000 | 1.500 | -0.500 | 3.000
    perplexity | 7.4 | 7.4 | +0.0 | 20.1
    accuracy | 50.0% | 50.0% | +0.0 | 10.0%
    """
    words = metrics["corpus"]["word_frequencies"]
    alone = {"loss": words["loss"], "perplexity": math.exp(words["loss"]), "accuracy": words["accuracy"]}
    last = {name: LABELS[name].value(number) for name, number in alone.items()}
    if "change" not in metrics:  # a run of an earlier version: one draw, no intervals
        held_out = {
            name: {"before": old, "after": metrics["after"][name], "change": metrics["after"][name] - old}
            for name, old in metrics["before"].items()
            if name in alone
        }
        rows = [(*_cells(name, measure), last.get(name, "")) for name, measure in held_out.items()]
        rows.insert(0, ("held-out text", "before", "after", "change", "word frequencies alone"))
        return rows + [(each, *[""] * 4) for each in _warnings(metrics)]
    held_out, general = metrics["change"]["held_out"], metrics["change"].get("general")
    found: list[tuple[str, ...]] = []
    found.append(("held-out text", "before", "after", "change", "95% interval", "word frequencies alone"))
    found += [(*_cells(n, m), _interval(n, m), last.get(n, "")) for n, m in _in_order(held_out["measures"])]
    found += [(each, *[""] * 5) for each in _warnings(metrics)]
    if general:
        found.append((general["text"], *[""] * 5))
        found += [(*_cells(n, m), _interval(n, m), "") for n, m in _in_order(general["measures"])]
    return found


@dataclass(frozen=True)
class Label:
    """What people call a measure, and how they write it, its change, and an interval's ends."""

    name: str
    value: Callable[[float], str]
    change: Callable[[float], str]
    end: Callable[[float], str]


def _large(number: float, sign: str = "") -> str:
    return f"{number:{sign},.1f}" if abs(number) < 1e6 else f"{number:{sign}.1e}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _with_sign(number: float) -> str:
    return _large(number, "+")


LABELS = {
    "loss": Label("loss (nats)", "{:.3f}".format, "{:+.3f}".format, "{:+.2f}".format),
    "perplexity": Label("perplexity", _large, _with_sign, _with_sign),
    "pseudo_perplexity": Label("pseudo-perplexity", _large, _with_sign, _with_sign),
    "accuracy": Label("accuracy", "{:.1%}".format, _points, _points),
    "top5_accuracy": Label("top-5 accuracy", "{:.1%}".format, _points, _points),
}


def _in_order(measures: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, measures[name]) for name in LABELS if name in measures]


def _cells(name: str, measure: dict[str, Any]) -> tuple[str, ...]:
    label, unsure = LABELS[name], measure.get("verdict") == NO_CHANGE
    change = NO_CHANGE if unsure else label.change(measure["change"])
    return label.name, label.value(measure["before"]), label.value(measure["after"]), change


def _interval(name: str, measure: dict[str, Any]) -> str:
    if measure["low"] is None:
        return str(measure["verdict"])
    return f"{LABELS[name].end(measure['low'])} to {LABELS[name].end(measure['high'])}"


def _warnings(metrics: dict[str, Any]) -> list[str]:
    few = measured_tokens(metrics)
    return [f"only {count(few, 'masked token')}: a hint, not a result"] if few < FEW else []


def prompt_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return prompt, answer, how it was chosen, and the first choices before and after of each prompt, as text."""
    return [
        _prompt(old) | {"before": _join(old["top"]), "after": _join(new["top"])}
        for old, new in zip(metrics["before"]["fill_mask"], metrics["after"]["fill_mask"], strict=True)
    ]


def _prompt(entry: dict[str, Any]) -> dict[str, str]:
    return {"prompt": entry["prompt"], "answer": entry["answer"] or "", "chosen": entry.get("chosen", "")}


def _join(guesses: list[tuple[str, float]]) -> str:
    first = (f"{token} {p:.0%}" for token, p in guesses[:3])
    return " \u00b7 ".join(first)  # not by commas, which are among the commonest tokens


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
        console.print(Text(note(metrics)))
    if folder is not None:
        place = one_line(str(folder))
        console.print(
            Text(f"\nEverything is in {place}: the model, recipe.yaml, metrics.json, report.html, README.md.")
        )
        prompts = metrics["after"]["fill_mask"]
        prompt = prompts[0]["prompt"] if prompts else "[MASK]"
        console.print(Text(f"Try it:  {command()} fill {place} {shlex.quote(prompt)}"))
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
    """Return how `mlm-recipes` is to be typed here: make's virtual environment is not on everybody's path."""
    beside = Path(sys.executable).with_name("mlm-recipes")
    if shutil.which("mlm-recipes") or not beside.exists():
        return "mlm-recipes"
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
        _print_prompt(console, _prompt(entry) | {"first": _join(entry["top"])}, ("first",))
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
