"""What a run leaves for people to read: the last screen, report.html and the model card; imports no torch."""

from __future__ import annotations

import io
import json
import math
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .escaping import in_all, markdown, one_line

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
    """Return the before/after table, a header and a row a measure.

    >>> measure = {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.5, "masked_tokens": 10}
    >>> words = {"word_frequencies": {"loss": 3.0, "accuracy": 0.1}}
    >>> for row in comparison({"corpus": words, "before": measure, "after": measure | {"loss": 1.5}}):
    ...     print(*row, sep=" | ")
    held-out text | before | after | change | word frequencies alone
    loss (nats) | 2.000 | 1.500 | -0.500 | 3.000
    perplexity | 7.4 | 7.4 | +0.0 | 20.1
    accuracy | 50.0% | 50.0% | +0.0 | 10.0%
    """
    before, after, words = metrics["before"], metrics["after"], metrics["corpus"]["word_frequencies"]
    perplexity, accuracy = after["perplexity"] - before["perplexity"], 100 * (after["accuracy"] - before["accuracy"])
    return [
        ("held-out text", "before", "after", "change", "word frequencies alone"),
        (
            "loss (nats)",
            f"{before['loss']:.3f}",
            f"{after['loss']:.3f}",
            f"{after['loss'] - before['loss']:+.3f}",
            f"{words['loss']:.3f}",
        ),
        (
            "perplexity",
            _large(before["perplexity"]),
            _large(after["perplexity"]),
            _large(perplexity, "+"),
            _large(math.exp(words["loss"])),
        ),
        (
            "accuracy",
            f"{before['accuracy']:.1%}",
            f"{after['accuracy']:.1%}",
            f"{accuracy:+.1f}",
            f"{words['accuracy']:.1%}",
        ),
    ]


def prompt_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return prompt, answer and the first choices before and after of each fill-mask prompt, as text."""
    return [
        {
            "prompt": old["prompt"],
            "answer": old["answer"],
            "before": _join(old["top"]),
            "after": _join(new["top"]),
        }
        for old, new in zip(metrics["before"]["fill_mask"], metrics["after"]["fill_mask"], strict=True)
    ]


def count(number: int, thing: str) -> str:
    """Return a number with its thing, in the plural where it should be.

    >>> count(1, "step"), count(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _large(number: float, sign: str = "") -> str:
    return f"{number:{sign},.1f}" if abs(number) < 1e6 else f"{number:{sign}.1e}"


def _join(guesses: list[tuple[str, float]]) -> str:
    return " \u00b7 ".join(token for token, _ in guesses)  # not by commas, which are among the commonest tokens


def note(metrics: dict[str, Any]) -> str:
    """Say in plain words what the numbers allow one to say."""
    corpus, train = metrics["corpus"], metrics["train"]
    masked, loss = metrics["after"]["masked_tokens"], metrics["after"]["loss"]
    resumed = train.get("resumed")
    steps = count(train["steps"], "step")
    if resumed:
        since = resumed[-1]["step"]
        steps += f", resumed after step {since}; the {train['steps'] - since} since then"
    where = f"{headline(metrics)} {steps} in {train['seconds']:,.0f} s."
    for each in resumed or []:
        if each["changed"]:
            what = ", ".join(f"{name} from {old} to {new}" for name, (old, new) in each["changed"].items())
            where += f" Changed after step {each['step']}: {what}; recipe.yaml holds the last values."
    if masked < 200:
        where += " That is few: read the numbers as a hint, not as a result."
    if not train["random_weights"]:
        return where + _forgotten(metrics)
    words = corpus["word_frequencies"]["loss"]
    where += " This model started from random weights"
    if loss < words - 0.3:
        return f"{where}; word frequencies alone give a loss of {words:.2f}."
    learned = (
        f"From {_size(corpus)} such a model learns little more than how often each word occurs"
        if loss < words + 0.3
        else "So far it has not learned even how often each word occurs"
    )
    return (
        f"{where}. {learned}: that alone gives a loss of {words:.2f}, and this model's is {loss:.2f}. To teach your "
        "text's style to a model that already knows the language, adapt a pretrained one: the built-in `mini`, or "
        "MODEL=google-bert/bert-base-uncased"
    )


def _size(corpus: dict[str, Any]) -> str:
    """Say how much text there is, where that is known: a stream's end may not have been seen."""
    return "so little" if corpus.get("streamed") else f"{corpus['words']:,} words"


def headline(metrics: dict[str, Any]) -> str:
    """Say in a sentence what was gained, on how much text, and how sure that is.

    >>> measured = {"corpus": {"validation": 51}, "after": {"masked_tokens": 741}}
    >>> print(headline(measured | {"gain": {"loss": 0.614, "low": 0.508, "high": 0.702, "paragraphs": 51}}))
    The held-out loss fell by 0.61 nats a token (95% interval 0.51 to 0.70) on 741 masked tokens of 51 paragraphs, the \
same before and after.
    """
    gain, masked = metrics["gain"], metrics["after"]["masked_tokens"]
    interval = f"95% interval {gain['low']:.2f} to {gain['high']:.2f}"
    unit = "row" if "rows" in gain else "paragraph"  # rows where the text was packed
    examples = gain[f"{unit}s"]
    where = f"on {count(masked, 'masked token')} of {count(examples, unit)}, the same before and after."
    if examples < 10:
        return (
            f"The held-out loss changed by {-gain['loss']:+.2f} nats a token {where} These are too few for an interval."
        )
    advice = "Try a lower --learning_rate, fewer steps, or more text."
    if gain["low"] > 0:
        return f"The held-out loss fell by {gain['loss']:.2f} nats a token ({interval}) {where}"
    if gain["high"] < 0:
        interval = f"95% interval {-gain['high']:.2f} to {-gain['low']:.2f}"
        return (
            f"The held-out loss rose by {-gain['loss']:.2f} nats a token ({interval}) {where} What was learned does "
            f"not help on text that was held out. {advice}"
        )
    return (
        f"No measurable change: the held-out loss fell by {gain['loss']:.2f} nats a token, and the {interval} includes "
        f"zero, {where} {advice}"
    )


def _forgotten(metrics: dict[str, Any]) -> str:
    """Say what became of the ordinary language, where that was measured."""
    if "general" not in metrics["after"]:
        return ""
    before, after = metrics["before"]["general"], metrics["after"]["general"]
    rose, gained = after["loss"] - before["loss"], metrics["gain"]["loss"]
    text = f"{metrics['corpus']['general']} ({count(after['masked_tokens'], 'masked token')})"
    if rose <= 0:
        return f" Nothing was forgotten: on {text} the loss fell by {-rose:.2f} nats."
    if rose < gained / 4:
        return f" Little was forgotten: on {text} the loss rose by {rose:.2f} nats, less than a quarter of the gain."
    return (
        f" Something was forgotten: on {text} the loss rose by {rose:.2f} nats, {before['loss']:.2f} to "
        f"{after['loss']:.2f}. A lower --learning_rate or fewer steps forget less."
    )


def summary(metrics: dict[str, Any], folder: Path | None = None) -> str:
    """Return the last screen of a run as text: the table, the prompts, what it means, and where everything lies."""
    metrics = in_all(metrics, one_line)
    console = _console()
    if "evaluation" in metrics:
        _print_evaluation(metrics, console)
    else:
        _print_table(console, comparison(metrics), right=range(1, 5))
        _print_table(
            console,
            [
                ("held-out prompt", "answer", "before", "after"),
                *((row["prompt"], row["answer"], row["before"], row["after"]) for row in prompt_rows(metrics)),
            ],
        )
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
    _print_table(
        console,
        [
            (f"held-out text of {metrics['corpus']['name']}", str(found["model"]), "word frequencies alone"),
            ("loss (nats)", f"{found['loss']:.3f}", f"{words['loss']:.3f}"),
            ("perplexity", _large(found["perplexity"]), ""),
            ("accuracy", f"{found['accuracy']:.1%}", f"{words['accuracy']:.1%}"),
            ("masked tokens", f"{found['masked_tokens']:,}", ""),
            *(
                [(f"loss on {metrics['corpus']['general']}", f"{found['general']['loss']:.3f}", "")]
                if "general" in found
                else []
            ),
        ],
        right=range(1, 3),
    )
    _print_table(
        console,
        [
            ("held-out prompt", "answer", "first choices"),
            *((row["prompt"], row["answer"], _join(row["top"])) for row in found["fill_mask"]),
        ],
    )
    if found["random_weights"]:
        console.print(Text("This model has random weights: it has learned nothing yet, and its figures are a guess's."))


def _print_table(console: Console, rows: list[tuple[str, ...]], right: range = range(0)) -> None:
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, title in enumerate(rows[0]):
        drawn.add_column(Text(title), justify="right" if index in right else "left", overflow="fold")
    for row in rows[1:]:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: no cell is read as rich's markup
    console.print(drawn)
    console.print()
