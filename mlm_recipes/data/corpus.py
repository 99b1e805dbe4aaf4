"""`load_corpus`: loads a text and holds out a part of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..masking.random_keys import sequence_keys
from ..metrics_file import Characters, ReadCorpus, SplitCounts
from ..sources.credentials import without_credentials
from .columns import column
from .copies import Measured, measured_once
from .corpus_name import Reading, TextSource, Version, resolve
from .loaded_corpus import Corpus
from .near_duplicates import near_duplicate_groups, training_rows_near
from .paragraphs import COUNTS, read_held_out, read_paragraphs

logger = logging.getLogger(__name__)

#: The counts that are logged, and how they are printed.
_LOGGED = COUNTS | {
    "duplicates_dropped": "duplicate paragraphs dropped",
    "dropped_as_duplicate_of_validation": "paragraphs not trained on because they are also held out",
    "held_out_not_measured": "held-out paragraphs not measured, more than max_eval_samples",
}

#: Which duplicate paragraphs are dropped.
DEDUPLICATE = ("none", "exact", "near")

#: Near duplicates among this many paragraphs are counted in a second or two; in a larger text, only if asked for.
_QUICKLY_COMPARED = 20_000


def load_corpus(
    corpus: str | Path,
    *,
    validation_fraction: float = 0.1,
    max_eval_samples: int = 2_000,
    validation_corpus: str | Path | None = None,
    seed: int = 0,
    deduplicate: str = "none",
    count_near_duplicates: bool | None = None,
    text_column: str | None = None,
    sample_by: str = "auto",
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
) -> Corpus:
    """Load the paragraphs of a text and hold some out.

    Args:
        corpus: one of

            - a name from `known_corpora()`; a file or folder of that name is `./NAME`
            - a file: text, Markdown, JSON lines, JSON, CSV, TSV, Parquet or Arrow, also compressed with gzip, zstd,
              bzip2 or xz
            - a folder, or a pattern such as `texts/*.txt`; of a folder with splits (saved by `datasets`, or with files
              named train, validation and test) `train` is read, `validation` is held out, and no other is read
            - an http(s) URL
            - `-`, standard input
            - the id of a data set on the hub, `owner/name`
        validation_fraction: share of the distinct paragraphs to hold out, in (0, 1); at least one is held out. A data
            set with a `validation` split holds out that split instead.
        max_eval_samples: upper bound for the number of distinct paragraphs in `validation`; more would not make the
            measurement noticeably better.
        validation_corpus: a separate text to hold out completely instead, named in the same ways as `corpus` (for a hub
            data set its `validation` split, or `train` if it has none). Paragraphs that are in both are not trained on.
            If it has more than `max_eval_samples` distinct paragraphs, that many are chosen by `seed` for `validation`.
        seed: decides which paragraphs are held out. This depends only on the paragraph's text and the seed, not on the
            order of the file.
        deduplicate: `none`; `exact`: drop paragraphs that equal an earlier one, ignoring case and white space; `near`:
            also drop those that share four fifths of their five-word shingles with an earlier one, and train on none
            that is a near duplicate of a held-out one (`mlm_recipes.data.near_duplicates`).
        count_near_duplicates: whether to count the near duplicates that are kept; by default up to 20,000 paragraphs.
        text_column: the column of a table that contains the text, or a path such as `data.paragraphs.context`. By
            default it is `text` if nearly all rows have text there, or the only column that may be text, or the one
            with three times the characters of any other; if that is not clear, it is refused, with the columns' names.
        sample_by: how a text file is divided into paragraphs: `line`, `paragraph` (separated by blank lines),
            `document`, or `auto` (`mlm_recipes.data.text_files.read_text`).
        encoding, encoding_errors: how files are decoded: one of Python's codecs, and `strict` or `replace`.
        config, split, revision: a hub data set's configuration, its split to train on (also a folder's), and its
            branch, tag or commit.
        sha256: the hash of the file at an http(s) URL; any other file is refused.

    Copies stay on one side of the split: paragraphs that are equal, ignoring case and white space. `train` has all
    copies; `validation` has the first of each, so that a line that is often repeated does not decide the result.
    `example_id` is the paragraph's number in its text, from 0.

    Raises: ValueError for a value, a name or a text that is refused; FileNotFoundError for a missing file.

    >>> corpus = load_corpus("meditations")
    >>> corpus["train"].num_rows, corpus["validation"].num_rows, corpus["train"].column_names
    (486, 54, ['text', 'example_id'])
    """
    check_held_out(validation_fraction, max_eval_samples)
    if deduplicate not in DEDUPLICATE:
        raise ValueError(f"deduplicate: received {deduplicate!r}. Accepted: {', '.join(DEDUPLICATE)}.")
    reading = Reading(text_column, sample_by, encoding, encoding_errors)
    source = resolve(str(corpus), reading, Version(config, split, revision, sha256))
    validation_source = None if validation_corpus is None else resolve(str(validation_corpus), reading)
    rows, held_out, text = read_paragraphs(source, own_split=validation_source is None)
    read = cast(ReadCorpus, text)
    if validation_source is not None:
        held_out, read["validation_corpus"] = read_held_out(validation_source, like=text.get("text_column"))
    before = len(rows) + len(held_out or [])
    if deduplicate == "exact":
        rows, held_out = first_of_each(rows), held_out and first_of_each(held_out)
    if deduplicate == "near":
        rows, held_out = first_of_near(rows), held_out and first_of_near(held_out)
        rows = rows if held_out is None else _not_near(rows, held_out)
    dropped = before - len(rows) - len(held_out or [])
    if held_out:
        result, measured = _with_held_out(rows, held_out), measured_once(held_out, max_eval_samples, seed)
    else:
        name = without_credentials(str(corpus))
        result, measured = _split(rows, validation_fraction, max_eval_samples, seed, name)
    read["characters"] = _characters(read["characters"], rows, result, held_out is not None)
    also_held_out = len(rows) + len(held_out or []) - sum(result.num_rows.values())
    counts = _count(result, dropped, also_held_out, measured)
    if count_near_duplicates or (count_near_duplicates is None and len(rows) <= _QUICKLY_COMPARED):
        _count_near(result, counts)
    result["validation"] = measured.rows
    result.facts = {**read, **counts}
    counted: Mapping[str, object] = result.facts
    for key, said in _LOGGED.items():
        if counted.get(key):
            logger.info("%s: %s: %s", read["name"], said, f"{counted[key]:,}")
    for part in result:
        result[part] = result[part].select_columns(["text", "example_id"])
    return result


def check_held_out(validation_fraction: float, max_eval_samples: int) -> None:
    """Raise ValueError if the share or the number of held-out paragraphs is out of range.

    >>> check_held_out(0.1, 2_000)
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction: received {validation_fraction}. Accepted: a number above 0 and below 1, such as 0.1."
        )
    if max_eval_samples < 1:
        raise ValueError(f"max_eval_samples: received {max_eval_samples}. Accepted: 1 or more, such as 2000.")


def load_paragraphs(source: TextSource) -> Dataset:
    """Load all paragraphs of a text in order, with `text`, `example_id`, `digest`; nothing is held out.

    For a hub data set with a `validation` split, these are the paragraphs of that split.

    >>> len(load_paragraphs(resolve("general-english")))
    60
    """
    rows, held_out, _ = read_paragraphs(source)
    return held_out or rows


def _split(rows: Dataset, fraction: float, at_most: int, seed: int, name: str) -> tuple[Corpus, Measured]:
    # The distinct paragraphs are ranked by a keyed hash, and the first ones are held out. So the number is exact,
    # the file's order does not matter, and adding a paragraph moves hardly any other paragraph across the split.
    ranks = sequence_keys(seed, 0, column(rows, "digest"))
    ranked = np.unique(ranks)
    if len(ranked) < 2:
        raise ValueError(
            f"corpus: {name!r} has {len(ranked)} different paragraph, too few to hold one out. Accepted: at least two, "
            "preferably a hundred. Put each paragraph on a separate line."
        )
    held_out = ranks < ranked[min(max(1, round(fraction * len(ranked))), at_most, len(ranked) - 1)]
    validation = rows.select(np.flatnonzero(held_out))
    corpus = Corpus(train=rows.select(np.flatnonzero(~held_out)), validation=validation)
    return corpus, measured_once(validation, at_most, seed)


def _with_held_out(rows: Dataset, held_out: Dataset) -> Corpus:
    kept = rows.select(np.flatnonzero(~np.isin(column(rows, "digest"), column(held_out, "digest"))))
    if not len(kept):
        raise ValueError(
            "corpus: every paragraph is also in the text that is held out, so there is nothing to train on. "
            "Accepted: texts that differ. Name a different validation_corpus, or save the `train` split of a hub data "
            "set as a text file and name that: part of it is then held out."
        )
    logger.info("A separate text is held out; validation_fraction does not apply.")
    return Corpus(train=kept, validation=held_out)


def first_of_each(rows: Dataset) -> Dataset:
    """Return `rows`, of copies only the first; they have a `digest`."""
    _, first = np.unique(column(rows, "digest"), return_index=True)
    return rows.select(np.sort(first))


def first_of_near(rows: Dataset) -> Dataset:
    """Return `rows`, of copies and near duplicates only the first."""
    groups = near_duplicate_groups(rows["text"])
    return rows.select(np.flatnonzero(groups == np.arange(len(groups))))


def _not_near(rows: Dataset, held_out: Dataset) -> Dataset:
    groups = near_duplicate_groups(concatenate_datasets([held_out, rows])["text"])
    near = training_rows_near(groups, np.arange(len(groups)) < len(held_out))
    return rows.select(np.flatnonzero(~near[len(held_out) :]))


def _count_near(corpus: Corpus, counts: SplitCounts) -> None:
    """Count the near duplicates of earlier paragraphs, and the training paragraphs that duplicate held-out ones."""
    groups = near_duplicate_groups(concatenate_datasets([corpus["validation"], corpus["train"]])["text"])
    held_out = np.arange(len(groups)) < len(corpus["validation"])
    counts["near_duplicates"] = int((groups != np.arange(len(groups))).sum()) - counts["duplicates"]
    counts["near_duplicates_of_validation"] = int(training_rows_near(groups, held_out).sum())


def _characters(read: Characters, rows: Dataset, corpus: Corpus, separate: bool) -> Characters:
    """Add what was left out after reading; `separate` if the held-out text is not part of what was read."""
    parts = ("train",) if separate else tuple(corpus)
    distinct = int(column(rows, "characters").sum())
    kept = sum(int(column(corpus[part], "characters").sum()) for part in parts)
    found = {"duplicates": read["kept"] - distinct, "copies of held-out paragraphs": distinct - kept}
    left_out = {**read["left_out"], **{why: number for why, number in found.items() if number}}
    return {"read": read["read"], "kept": kept, "left_out": left_out}


def _count(corpus: Corpus, dropped: int, also_held_out: int, measured: Measured) -> SplitCounts:
    digests = np.concatenate([column(corpus[part], "digest") for part in corpus])
    return {
        "duplicates_dropped": dropped,
        "dropped_as_duplicate_of_validation": also_held_out,
        "paragraphs": len(digests),
        "words": sum(int(column(corpus[part], "words").sum()) for part in corpus),
        "duplicates": len(digests) - len(np.unique(digests)),
        "train": len(corpus["train"]),
        "validation": len(measured.rows),
        "held_out_copies": measured.copies,
        "held_out_not_measured": measured.beyond,
    }
