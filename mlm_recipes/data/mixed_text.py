"""Loads a text that is mixed into training, without the paragraphs that are measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ..metrics_file import ReadText
from .columns import column
from .copies import Measured, measured_once
from .corpus import first_of_each, first_of_near
from .corpus_name import TextSource, resolve
from .near_duplicates import near_duplicate_groups, training_rows_near
from .paragraphs import read_paragraphs
from .text_cache import digests


class Mixed(NamedTuple):
    """A text to mix in, with `text` and `example_id`.

    `left_out` is how many of its paragraphs are not, since they are measured. `facts` says where it comes from.
    """

    rows: Dataset
    left_out: int
    facts: ReadText


def load_mixed(text: str | TextSource, measured: Iterable[str] = (), deduplicate: str = "none") -> Mixed:
    """Load the paragraphs of a text that may be trained on: those that are not among the `measured` ones.

    Args:
        text: a name as for `load_corpus`, or what `resolve` returned. Of a data set with a `validation` split, `train`
            is read.
        measured: paragraphs that the model is measured on. Those that equal one, ignoring case and white space, are
            left out.
        deduplicate: as for `load_corpus`; with `near`, near duplicates of measured paragraphs are left out too.

    Raises: ValueError if no paragraph is left, and as `load_corpus`.

    >>> measured = ["The bus leaves at nine."]
    >>> len(load_mixed("general-english", measured).rows)
    60
    """
    source = resolve(text) if isinstance(text, str) else text
    rows, _, facts = read_paragraphs(source)
    if deduplicate != "none":
        rows = first_of_each(rows) if deduplicate == "exact" else first_of_near(rows)
    held_out = [*measured]
    kept = ~np.isin(column(rows, "digest"), digests(held_out))
    if deduplicate == "near" and held_out:
        groups = near_duplicate_groups([*held_out, *rows["text"]])
        kept &= ~training_rows_near(groups, np.arange(len(groups)) < len(held_out))[len(held_out) :]
    if not kept.any():
        raise ValueError(
            f"mix: every paragraph of {source.name!r} is measured, so there is nothing to mix in. Accepted: a text "
            "with other paragraphs than those that are held out. Name a different text."
        )
    chosen = rows.select(np.flatnonzero(kept)).select_columns(["text", "example_id"])
    return Mixed(chosen, len(rows) - len(chosen), facts)


def measured_part(source: TextSource, at_most: int, seed: int, mixed: bool) -> Measured:
    """Return the paragraphs of a general text that are measured; if it is `mixed` in too, at most half of them.

    For a data set with a `validation` split, they are that split's, and no half is needed. See `measured_once`.

    >>> measured_part(resolve("general-english"), at_most=2000, seed=0, mixed=True).beyond
    30
    """
    rows, validation, _ = read_paragraphs(source)
    if mixed and validation is None:
        at_most = min(at_most, max(1, len(np.unique(column(rows, "digest"))) // 2))
    return measured_once(validation or rows, at_most, seed)
