"""The last screen of a run; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..metrics_file import EvaluationMetrics, Metrics
from ..sources.escaping import in_all, one_line, shell
from . import probes
from .against_frequencies import worse_by
from .before_after_table import LABELS, NO_CHANGE, join_top, prompt, prompt_rows, table_rows
from .run_report import FILES
from .similarity_sentences import sentences_alone, similarity_sentences
from .terminal import command, make_console, print_table, text_of
from .unknown_words import qualification, unknown_text
from .wording import FEW, count, note

#: Cells that are too wide for one line on a terminal of 80 columns.
_NARROW = {NO_CHANGE: "no measurable\nchange", "word frequencies alone": "word\nfrequencies\nalone"}


#: The heading of the prompts that were chosen, as `chosen` names each of them.
_WHICH_PROMPTS = (
    "Held-out words (the right one in brackets) whose probability rose most, fell most, and others at random; the "
    "model's first guesses before and after:"
)


def summary(metrics: Metrics | EvaluationMetrics, folder: Path | None = None) -> str:
    """Return the last screen of a run as text: the table, the prompts, what they mean, and where the files are."""
    metrics = in_all(metrics, one_line)
    console = make_console()
    if "evaluation" in metrics:
        _print_evaluation(metrics, console)
    else:
        rows = [tuple(_NARROW.get(cell, cell) for cell in row) for row in table_rows(metrics)]
        print_table(console, rows, right=range(1, len(rows[0])))
        shown = list(prompt_rows(metrics))
        if any(row["chosen"] == "at random" for row in shown):
            console.print(Text(_WHICH_PROMPTS))
        for row in shown:
            _print_prompt(console, row, ("before", "after"))
        console.print()
        console.print(Text(note(metrics) if "gain" in metrics else "Before and after could not be compared."))
        for sentence in probes.sentences(metrics):
            console.print(Text(sentence))
        for sentence in similarity_sentences(metrics):
            console.print(Text(f"\n{sentence}"))
    if folder is not None and "evaluation" not in metrics:
        place = one_line(str(folder))
        files = [name for name in ("recipe.yaml", "metrics.json", *FILES) if (folder / name).is_file()]
        console.print(Text(f"\nEverything is in {place}: {', '.join(['the model', *files])}."))
        shortest = min((entry["prompt"] for entry in metrics["after"]["fill_mask"]), key=len, default="[MASK]")
        # In one line, however long: a line break within the quotes would be pasted along with the command.
        console.print(Text(f"Try it:  {command()} fill {place} {shell(shortest)}"), soft_wrap=True)
    return text_of(console)


def _print_evaluation(metrics: EvaluationMetrics, console: Console) -> None:
    found, words = metrics["evaluation"], metrics["corpus"]["word_frequencies"]
    alone: dict[str, float] = {"loss": words["loss"], "accuracy": words["accuracy"]}
    rows: list[tuple[str, ...]] = []
    rows.append((f"held-out text of {metrics['corpus']['name']}", str(found["model"]), "word frequencies alone"))
    for name, label in LABELS.items():
        if name in found:  # text without spaces has no words
            rows.append((label.name, label.value(found[name]), label.value(alone[name]) if name in alone else ""))
    rows.append(("masked tokens", f"{found['masked_tokens']:,} in {count(found['draws'], 'draw')}", ""))
    if found["distinct_tokens"] < FEW:
        rows.append((f"only {count(found['distinct_tokens'], 'masked token')}: a hint, not a result", "", ""))
    if "general" in found:
        rows.append((metrics["corpus"]["general"], "", ""))
        general = found["general"]
        rows += [(label.name, label.value(general[name]), "") for name, label in LABELS.items() if name in general]
    print_table(console, rows, right=range(1, 3))
    for entry in found["fill_mask"]:
        _print_prompt(console, prompt(entry) | {"first": join_top(entry["top"])}, ("first",))
    console.print()
    for sentence in (*_about_the_model(metrics), *probes.alone(metrics), *sentences_alone(found)):
        console.print(Text(sentence))


def _about_the_model(metrics: EvaluationMetrics) -> Iterator[str]:
    """Yield what keeps the figures of a model from showing what it knows."""
    found, corpus = metrics["evaluation"], metrics["corpus"]
    unknown = qualification(corpus.get("unknown")) + unknown_text(corpus.get("unknown"))
    if unknown:
        yield unknown
    if found["head_initialised"]:
        missing = count(len(found["head_initialised"]), "weight")
        yield (
            f"This model came without a trained masked-language-modelling head: {missing} started from random values, "
            "so its figures do not show what it knows."
        )
    if found["random_weights"]:
        yield "This model has random weights: its figures are no better than guessing."
    worse = worse_by(found["loss"], corpus)
    if worse:
        yield f"It is worse than word frequencies alone: its loss is {worse:.2f} nats above theirs."


def _print_prompt(console: Console, row: dict[str, str], what: tuple[str, ...]) -> None:
    answer = f"  ({row['answer']})" if row["answer"] else ""
    console.print(Text(": ".join(filter(None, (row["chosen"], row["prompt"]))) + answer))
    for name in what:
        console.print(Text(f"  {name:6}  {row[name]}"))
