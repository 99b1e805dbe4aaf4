"""The before/after table and the prompts of a run as text, for every page that shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from ..metrics_file import FilledPrompt, GroupMeasures, Measure, MeasureName, Metrics, TextMeasures, TokenProbability
from .wording import FEW, SPELLED, count, measured_tokens

#: Of a run with `add_tokens`.
OTHER_VOCABULARY = "per word and character: the vocabulary before had no added words"

#: The verdict of an interval that includes zero.
NO_CHANGE = "no measurable change"


@dataclass(frozen=True)
class Label:
    """A measure's display name, and how its value, its change and an interval's ends are written."""

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


LABELS: dict[MeasureName, Label] = {
    "loss": Label(f"{SPELLED['loss']} (nats)", "{:.3f}".format, "{:+.3f}".format, "{:+.2f}".format),
    "perplexity": Label(SPELLED["perplexity"], _large, _with_sign, _with_sign),
    "pseudo_perplexity": Label(SPELLED["pseudo_perplexity"], _large, _with_sign, _with_sign),
    "loss_per_word": Label(SPELLED["loss_per_word"], "{:.3f}".format, "{:+.3f}".format, "{:+.2f}".format),
    "loss_per_character": Label(SPELLED["loss_per_character"], "{:.4f}".format, "{:+.4f}".format, "{:+.3f}".format),
    "accuracy": Label(SPELLED["accuracy"], "{:.1%}".format, _points, _points),
    "top5_accuracy": Label(SPELLED["top5_accuracy"], "{:.1%}".format, _points, _points),
}


@dataclass(frozen=True)
class Row:
    """A row of the table: a measure's cells, or only a `name`, which is a text's heading (`text`) or a `warning`."""

    name: str
    before: str = ""
    after: str = ""
    change: str = ""
    interval: str = ""
    alone: str = ""
    kind: str = "measure"


def rows(metrics: Metrics) -> list[Row]:
    """Return the before/after table: held-out text, and ordinary language if it was measured.

    The first row names the held-out text. Runs of earlier versions have no intervals.
    """
    words = metrics["corpus"]["word_frequencies"]
    alone: dict[MeasureName, float] = {
        "loss": words["loss"],
        "perplexity": math.exp(words["loss"]),
        "accuracy": words["accuracy"],
    }
    last = {name: LABELS[name].value(number) for name, number in alone.items()}
    found, general = [Row("held-out text", kind="text")], None
    if "change" in metrics:
        general = metrics["change"].get("general")
        measures = in_order(metrics["change"]["held_out"]["measures"])
        found += [row_of(name, measure, last.get(name, "")) for name, measure in measures]
    else:  # one draw, no intervals
        for name in alone:
            old, new = metrics["before"][name], metrics["after"][name]
            label = LABELS[name]
            found.append(Row(label.name, label.value(old), label.value(new), label.change(new - old), "", last[name]))
    if "change" in metrics and "word_sample" in metrics["change"]["held_out"]:
        sample = metrics["change"]["held_out"]["word_sample"]
        if sample["tokens_before"] != sample["tokens_after"]:
            found.append(Row(OTHER_VOCABULARY, kind="warning"))
    few = measured_tokens(metrics)
    if few < FEW:
        found.append(Row(f"only {count(few, 'masked token')}: a hint, not a result", kind="warning"))
    if general:
        found.append(Row(general["text"], kind="text"))
        found += [row_of(name, measure) for name, measure in in_order(general["measures"])]
    return found


def in_order(measures: TextMeasures | GroupMeasures) -> Iterator[tuple[MeasureName, Measure]]:
    """Yield the measures that are present, in the order in which every page shows them."""
    there = cast(Mapping[str, Measure], measures)
    return ((name, there[name]) for name in LABELS if name in there)


def row_of(name: MeasureName, measure: Measure, alone: str = "") -> Row:
    """Return a measure (docs/metrics.md) as a row; a change that is not measurable is labelled so.

    >>> accuracy = {"before": 0.3, "after": 0.31, "change": 0.01, "low": -0.01, "high": 0.03}
    >>> row = row_of("accuracy", accuracy | {"verdict": "no measurable change"})
    >>> row.before, row.after, row.change, row.interval
    ('30.0%', '31.0%', 'no measurable change', '-1.0 to +3.0')
    """
    label, verdict = LABELS[name], measure["verdict"]
    change = NO_CHANGE if verdict == NO_CHANGE else label.change(measure["change"])
    interval: str = verdict
    if measure["low"] is not None and measure["high"] is not None:
        interval = f"{label.end(measure['low'])} to {label.end(measure['high'])}"
    return Row(label.name, label.value(measure["before"]), label.value(measure["after"]), change, interval, alone)


def table_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Return the before/after table as text: a header, then a row per measure, all with the same number of cells.

    >>> measure = {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.5, "masked_tokens": 500}
    >>> words = {"word_frequencies": {"loss": 3.0, "accuracy": 0.1}}
    >>> for row in table_rows({"corpus": words, "before": measure, "after": measure | {"loss": 1.5}}):
    ...     print(*row, sep=" | ")
    held-out text | before | after | change | word frequencies alone
    loss (nats) | 2.000 | 1.500 | -0.500 | 3.000
    perplexity | 7.4 | 7.4 | +0.0 | 20.1
    accuracy | 50.0% | 50.0% | +0.0 | 10.0%
    """
    first, *others = rows(metrics)
    interval = "change" in metrics
    found = [(first.name, "before", "after", "change", "95% interval", "word frequencies alone")]
    found += [(row.name, row.before, row.after, row.change, row.interval, row.alone) for row in others]
    return [row if interval else (*row[:4], row[5]) for row in found]


def prompt_rows(metrics: Metrics) -> list[dict[str, str]]:
    """Return each prompt, its answer, how it was chosen, and the top tokens before and after, as text."""
    return [
        prompt(old) | {"before": join_top(old["top"]), "after": join_top(new["top"])}
        for old, new in zip(metrics["before"]["fill_mask"], metrics["after"]["fill_mask"], strict=True)
    ]


def prompt(entry: FilledPrompt) -> dict[str, str]:
    """Return a prompt, its answer and how it was chosen, as text."""
    return {"prompt": entry["prompt"], "answer": entry.get("answer") or "", "chosen": entry.get("chosen", "")}


def join_top(top: list[TokenProbability]) -> str:
    """Return the three most likely tokens in one line.

    >>> join_top([("man", 0.41), ("life", 0.05)]) == "man 41% \N{MIDDLE DOT} life 5%"
    True
    """
    first = (f"{token} {p:.0%}" for token, p in top[:3])
    return " \u00b7 ".join(first)  # not by commas, which are among the most common tokens
