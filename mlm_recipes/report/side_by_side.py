"""Runs side by side, and whether their figures are comparable; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..metrics_file import CorpusFacts, Metrics, TextChange
from ..sources.escaping import in_all, one_line
from . import probes, run_report, similarity_rows, terminal
from .against_frequencies import knew_nothing, worse_by
from .before_after_table import LABELS, in_order, row_of
from .html import environment
from .unknown_words import NOTABLE, share
from .wording import FEW, SPELLED, count, duration, measured_tokens, size

#: Runs in one table on a terminal; further runs get tables of their own.
_BESIDE = 4


def _text(corpus: CorpusFacts) -> str | None:
    """Return what identifies a text, if that is known."""
    if "prepared" in corpus:
        return corpus["prepared"]["fingerprint"]
    return None if "streamed" in corpus else corpus.get("fingerprint")


#: What must be equal if held-out figures are to be of the same tokens, and where metrics.json has it.
_SAME: dict[str, Callable[[Metrics], str | int | None]] = {
    "text": lambda metrics: _text(metrics["corpus"]),
    "held-out paragraphs": lambda metrics: metrics["corpus"]["validation"],
    "maximum tokens per row": lambda metrics: metrics["corpus"]["max_length"],
    "draws of the masks": lambda metrics: metrics["change"]["held_out"]["draws"] if "change" in metrics else 1,
    "masked tokens": lambda metrics: metrics["after"]["masked_tokens"],
}

#: Recipe values that decide what is held out and what is masked; compared if nothing above differs.
_DECIDE = (
    *("model", "from_scratch", "corpus", "validation_corpus", "validation_fraction", "max_eval_samples"),
    *("evaluation_seed", "max_length", "long_text", "packing"),
)


@dataclass(frozen=True)
class ComparedRun:
    """The contents of a run folder: its name, metrics.json and recipe.yaml."""

    name: str
    metrics: Metrics
    recipe: dict[str, Any]


@dataclass(frozen=True)
class RunsSideBySide:
    """What `compare_runs` returns; `print()` shows it, `html()` is a page.

    `differences` lists why the held-out figures of these runs are not of the same masked tokens; if it is empty, they
    can be compared. With `only_words`, the runs have different vocabularies, and were measured on the same words: only
    the loss per word and per character can be compared, and only these are shown.
    """

    runs: list[ComparedRun]
    differences: list[str]
    only_words: bool = False

    @property
    def comparable(self) -> bool:
        """Whether the figures are of the same masked tokens, or of the same words."""
        return self.only_words or not self.differences

    def verdict(self) -> str:
        """Return whether these runs can be compared, and if so which one has the lowest held-out loss."""
        probed = similarity_rows.other_texts([(run.name, run.metrics) for run in self.runs])
        general = "" if self.differences else _other_general_texts(self.runs)
        return " ".join(part for part in (self._of_the_text(), general, probed) if part)

    def _of_the_text(self) -> str:
        if self.only_words:
            return _verdict_on_words(self.runs)
        if self.differences:
            return (
                "These runs cannot be compared with each other: they were not measured on the same masked tokens. "
                f"They differ in: {'; '.join(self.differences)}. Read each column on its own."
            )
        first, second, *_ = sorted(self.runs, key=_loss)
        by = _loss(second) - _loss(first)
        few = measured_tokens(first.metrics)
        return (
            f"All runs were measured on the same masked tokens. {first.name} has the lowest held-out loss: "
            f"{_loss(first):.3f} nats, {by:.3f} below {second.name}. Each interval is for one run's own change, before "
            "to after. None is for the difference between two runs, so a small difference may be due to chance."
            + _no_better(first)
            + (f" There are only {count(few, 'masked token')}: a hint, not a result." if few < FEW else "")
        )

    def tables(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """Yield each table's title and its rows: a label, and a cell for each run."""
        of_text = [("Held-out text", _held_out), ("Ordinary language", _general)]
        of_text = [("Held-out text", _held_out_words)] if self.only_words else of_text
        of_tasks = [("Your labels", probes.compared), ("Pairs and searches", similarity_rows.compared)]
        for title, rows in (*of_text, *of_tasks, ("The run", _run)):
            found = _aligned([dict(rows(run.metrics)) for run in self.runs])
            if found:
                yield title, found
        names = dict.fromkeys(name for run in self.runs for name in run.recipe)
        values = [(name, *(_value(run.recipe, name) for run in self.runs)) for name in names]
        differing = [row for row in values if len(set(row[1:])) > 1]
        if differing:
            yield "Recipe values that differ", differing

    def __str__(self) -> str:
        parts = [terminal.wrapped(self.verdict())]
        for start in range(0, len(self.runs), _BESIDE):
            names = [run.name for run in self.runs[start : start + _BESIDE]]
            for title, rows in self.tables():
                beside = [(row[0], *row[1 + start : 1 + start + _BESIDE]) for row in rows]
                parts.append(terminal.table([(title, *names), *beside], right=range(1, len(names) + 1)))
        return "\n\n".join(parts)

    def html(self) -> str:
        """Return the same as a self-contained HTML page."""
        return (
            environment()
            .get_template("side_by_side.html")
            .render(
                verdict=self.verdict(),
                comparable=self.comparable,
                names=[run.name for run in self.runs],
                tables=list(self.tables()),
            )
        )


def compare_runs(folders: Sequence[str | Path]) -> RunsSideBySide:
    """Compare finished runs side by side.

    Raises: ValueError for fewer than two folders; FileNotFoundError for one that is not a finished run's.
    """
    if len(folders) < 2:
        raise ValueError(
            f"compare: received {count(len(folders), 'run')}. Accepted: two or more run folders. Name another one."
        )
    runs = []
    for name, folder in zip(_names([Path(folder) for folder in folders]), folders, strict=True):
        metrics = run_report.read_metrics(folder, "compare")
        recipe = yaml.safe_load((Path(folder) / "recipe.yaml").read_text("utf-8"))
        runs.append(ComparedRun(one_line(name), metrics, in_all(recipe or {}, one_line)))
    found = [text for other in runs[1:] for text in _differences(runs[0], other)]
    words = {_word_fingerprint(run) for run in runs}
    return RunsSideBySide(runs, list(dict.fromkeys(found)), bool(found) and len(words) == 1 and None not in words)


def _names(folders: list[Path]) -> list[str]:
    """Return the folders' names; if two are the same, their paths below the common parent."""
    whole = [folder.resolve() for folder in folders]
    short = [folder.name for folder in whole]
    if len(set(short)) == len(short) or len(set(whole)) == 1:
        return short
    common = os.path.commonpath(whole)
    return [str(folder.relative_to(common)) for folder in whole]


def _differences(one: ComparedRun, other: ComparedRun) -> Iterator[str]:
    """Yield why the masked tokens of two runs differ; nothing if they are the same."""
    prints = [_fingerprint(run) for run in (one, other)]
    if None not in prints and prints[0] == prints[1]:
        return
    found = [
        f"{what} ({one.name}: {_short(ours)}, {other.name}: {_short(theirs)})"
        for what, of in _SAME.items()
        if (ours := of(one.metrics)) != (theirs := of(other.metrics))
    ]
    # Runs of earlier versions have no fingerprint of their masked tokens: compare their recipes instead.
    found += [
        f"{name} ({one.name}: {_value(one.recipe, name)}, {other.name}: {_value(other.recipe, name)})"
        for name in _DECIDE
        if not found and _value(one.recipe, name) != _value(other.recipe, name)
    ]
    if not found and None not in prints:
        found = [f"which tokens are masked ({one.name}: {_short(prints[0])}, {other.name}: {_short(prints[1])})"]
    yield from found


def _fingerprint(run: ComparedRun) -> str | None:
    """Return the fingerprint of the masked tokens; None for a run of an earlier version."""
    return run.metrics["change"]["held_out"].get("fingerprint") if "change" in run.metrics else None


def _word_fingerprint(run: ComparedRun) -> str | None:
    """Return the fingerprint of the measured words, whatever the vocabulary; None for a run of an earlier version."""
    if "change" not in run.metrics or "word_sample" not in run.metrics["change"]["held_out"]:
        return None
    return run.metrics["change"]["held_out"]["word_sample"]["fingerprint"]


def _per_word(run: ComparedRun) -> float:
    return run.metrics["change"]["held_out"]["measures"]["loss_per_word"]["after"]


def _other_general_texts(runs: Sequence[ComparedRun]) -> str:
    """Return a sentence if runs with the same held-out text measured other tokens of the text in ordinary language."""
    texts = {run.name: run.metrics["change"].get("general") for run in runs if "change" in run.metrics}
    measured = {name: text for name, text in texts.items() if text is not None}
    # A run of an earlier version has no fingerprint, but the number of the tokens.
    of_each = {(text["text"], text.get("fingerprint"), text["masked_tokens"]) for text in measured.values()}
    if len(of_each) < 2:
        return ""
    said = ", ".join(f"{name}: {text['masked_tokens']:,} of {text['text']}" for name, text in measured.items())
    return (
        f"What was forgotten was not measured on the same masked tokens ({said}), as when a part of that text is mixed "
        "into training: under Ordinary language, read each column on its own."
    )


def _verdict_on_words(runs: Sequence[ComparedRun]) -> str:
    first, second, *_ = sorted(runs, key=_per_word)
    by = _per_word(second) - _per_word(first)
    words = first.metrics["change"]["held_out"]["word_sample"]["words"]
    return (
        "These runs were not measured on the same masked tokens, as their vocabularies or the masks differ, but on the "
        f"same {count(words, 'word')} of the text. Only the loss per word and per character can be compared. "
        f"{first.name} has the lowest loss per word: {_per_word(first):.3f} nats, {by:.3f} below {second.name}. Each "
        "interval is for one run's own change, before to after. None is for the difference between two runs, so a "
        "small difference may be due to chance."
    )


def _short(value: str | int | None) -> str:
    """Return a value for a sentence; a fingerprint is shortened."""
    return value[:8] if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else "unknown"


def _value(recipe: dict[str, Any], name: str) -> str:
    value = recipe.get(name)
    return "-" if value is None else str(value)


def _no_better(best: ComparedRun) -> str:
    """Return that even the best run is worse than word frequencies, if it is."""
    worse = worse_by(_loss(best), best.metrics["corpus"])
    return f" Even {best.name} is worse than word frequencies alone, by {worse:.3f} nats." if worse else ""


def _loss(run: ComparedRun) -> float:
    return float(run.metrics["after"]["loss"])


def _aligned(columns: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """Return a row for each label that any run has; a run without it has an empty cell."""
    labels = dict.fromkeys(label for column in columns for label in column)
    return [(label, *(column.get(label, "") for column in columns)) for label in labels]


def _measures(change: TextChange) -> Iterator[tuple[str, str]]:
    for name, measure in in_order(change["measures"]):
        row = row_of(name, measure)
        yield f"{row.name}, before", row.before
        yield f"{row.name}, after", row.after
        yield f"{row.name}, change", row.change
        yield f"{row.name}, 95% interval", row.interval


def _held_out(metrics: Metrics) -> Iterator[tuple[str, str]]:
    yield "text", metrics["corpus"]["name"]
    yield "masked tokens", f"{metrics['after']['masked_tokens']:,}"
    few = measured_tokens(metrics)
    if few < FEW:
        yield "warning", f"only {few}: a hint"
    yield "loss of word frequencies alone", LABELS["loss"].value(metrics["corpus"]["word_frequencies"]["loss"])
    if worse_by(metrics["after"]["loss"], metrics["corpus"]):
        yield "after, against word frequencies", "worse"
    unknown = metrics["corpus"].get("unknown")
    if unknown is not None and share(unknown) > NOTABLE:
        yield "unknown to the vocabulary", f"{share(unknown):.1%}"
    if "change" in metrics:
        yield from _measures(metrics["change"]["held_out"])
        return
    for name, label in LABELS.items():  # a run of an earlier version
        for when, state in (("before", metrics["before"]), ("after", metrics["after"])):
            if name in state:
                yield f"{label.name}, {when}", label.value(state[name])


def _held_out_words(metrics: Metrics) -> Iterator[tuple[str, str]]:
    held_out = metrics["change"]["held_out"]
    yield "text", metrics["corpus"]["name"]
    yield "words measured", f"{held_out['word_sample']['words']:,}"
    yield "their tokens after training", f"{held_out['word_sample']['tokens_after']:,}"
    for label, cell in _measures(held_out):
        if label.startswith((SPELLED["loss_per_word"], SPELLED["loss_per_character"])):
            yield label, cell


def _general(metrics: Metrics) -> Iterator[tuple[str, str]]:
    if "change" in metrics and "general" in metrics["change"]:
        general = metrics["change"]["general"]
        yield "text", general["text"]
        yield "masked tokens", f"{general['masked_tokens']:,}"
        if knew_nothing(metrics):
            yield "before training", "no better than word frequencies"
        yield from _measures(general)


def _run(metrics: Metrics) -> Iterator[tuple[str, str]]:
    train = metrics["train"]
    yield "model", train["model"]
    yield "started from", "random weights" if train["random_weights"] else "trained weights"
    if train.get("head_initialised"):
        yield "head", "freshly initialised"
    yield "steps", f"{train['steps']:,}"
    yield "epochs", f"{train['epochs']:.3g}"
    yield "time", duration(train["seconds"])
    if train.get("tokens_per_second"):
        yield "tokens per second", f"{train['tokens_per_second']:,.0f}"
    memory = train.get("peak_memory")
    if memory:
        yield "peak memory", size(memory["bytes"])
