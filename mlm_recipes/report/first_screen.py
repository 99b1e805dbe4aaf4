"""What a run says of its text before it trains; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from ..metrics_file import CorpusFacts
from .text_read import how_read
from .unknown_words import unknown_text
from .wording import count


def about_the_text(facts: CorpusFacts, repeated_rows: int = 0) -> str:
    """Return sentences about a text: its size, how it was read, and what is neither trained on nor measured.

    `repeated_rows` is the number of held-out rows that are not measured because they equal another one.
    """
    size, train = "read as a stream", ""
    if "streamed" not in facts:
        size = f"{facts['paragraphs']:,} paragraphs, {facts['words']:,} words"
        train = f"{facts['train']:,} to train on, "
    first = f"{facts['name']}: {size}; {train}{facts['validation']:,} held out."
    if "prepared" in facts:
        made = facts["prepared"]
        shards, rows = count(made["shards"], "shard"), count(made["rows"], "row")
        first += f" Prepared in {shards}: {rows}, {count(made['tokens'], 'token')}."
    left_out = [*_copies(facts, repeated_rows), *_beyond(facts), *_longer(facts)]
    return " ".join(filter(None, [first, *how_read(facts), *left_out, unknown_text(facts.get("unknown"))]))


def _copies(facts: CorpusFacts, repeated_rows: int) -> Iterator[str]:
    if "streamed" not in facts and "prepared" not in facts and facts["duplicates"]:
        copies = f"{facts['duplicates']:,} of the paragraphs {_are(facts['duplicates'], 'a copy', 'copies')} of another"
        yield f"{copies}; --deduplicate exact keeps one of each."
    copies_held_out = facts.get("held_out_copies")
    if copies_held_out:
        number = f"{copies_held_out:,} {'copy' if copies_held_out == 1 else 'copies'} of held-out ones"
        yield (
            f"Each paragraph is measured once: {number}, apart from case and white space, "
            f"{_are(copies_held_out)} neither trained on nor measured."
        )
    if repeated_rows:
        equal = "equals an earlier one" if repeated_rows == 1 else "equal earlier ones"
        yield f"{count(repeated_rows, 'held-out row')} {equal} to the model, and {_are(repeated_rows)} not measured."


def _beyond(facts: CorpusFacts) -> Iterator[str]:
    beyond = facts.get("held_out_not_measured")
    if beyond:
        yield (
            f"{count(beyond, 'further paragraph')} of the held-out text {_are(beyond)} not measured, since "
            f"--max_eval_samples is {facts['validation']:,}."
        )
    left_out = facts.get("general_copies", 0) + facts.get("general_not_measured", 0)
    if left_out:
        yield (
            f"{count(left_out, 'paragraph')} of {facts['general']} {_are(left_out)} not measured: copies, or more than "
            "--max_eval_samples."
        )


def _longer(facts: CorpusFacts) -> Iterator[str]:
    longer = f"Longer than {facts['max_length']} tokens:"
    if facts["cut_off_paragraphs"] and facts["cut_off_tokens"]:
        yield (
            f"{longer} {count(facts['cut_off_paragraphs'], 'paragraph')}, of which "
            f"{count(facts['cut_off_tokens'], 'token')} are cut off; --long_text split keeps them."
        )
    elif facts["split_paragraphs"]:
        yield (
            f"{longer} {count(facts['split_paragraphs'], 'paragraph')}, split at the ends of sentences; "
            f"{facts['rows']:,} rows in all."
        )


def _are(number: int, one: str = "", several: str = "") -> str:
    return f"is {one}".strip() if number == 1 else f"are {several}".strip()
