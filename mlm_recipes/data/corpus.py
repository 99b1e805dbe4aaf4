"""From a corpus's name to paragraphs: `load_corpus`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from ..masking.keys import sequence_keys
from ..sources.credentials import without_credentials
from .columns import column
from .near_duplicates import near_duplicate_groups, training_rows_near
from .paragraphs import COUNTS, read_paragraphs
from .text_source import Reading, TextSource, Version, resolve

logger = logging.getLogger(__name__)

#: What is said of a corpus besides what reading counts.
_SAID = COUNTS | {
    "duplicates_dropped": "paragraphs dropped that have their like elsewhere",
    "dropped_as_duplicate_of_validation": "paragraphs not trained on, since they are held out too",
}

#: What can be done with paragraphs that occur more than once.
DEDUPLICATE = ("none", "exact", "near")

#: So many paragraphs take a second or two to be compared; in a larger text near duplicates are counted when asked for.
_QUICKLY_COMPARED = 20_000


class Corpus(DatasetDict):
    """A `DatasetDict` with `train` and `validation`, each with the columns `text` and `example_id`, and its `facts`.

    `facts` is plain data for metrics.json: name, source, licence, paragraphs, words, train and validation (in
    paragraphs), duplicates, a fingerprint of all text that was read, and what was dropped, joined, cut or replaced
    (`COUNTS`); with a `validation_corpus` the same of it.
    """

    facts: dict[str, Any]


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
    """Load paragraphs and hold some out, before anything else touches them.

    Args:
        corpus: a name from `known_corpora()`; a file (text, Markdown, JSON lines, JSON, CSV, TSV, Parquet, Arrow; also
            compressed by gzip, zstd, bzip2 or xz); a folder or a pattern such as `texts/*.txt`; an http(s) address;
            `-`, standard input; or the id of a data set on the hub, `owner/name`.
        validation_fraction: share of the distinct paragraphs to hold out, in (0, 1); at least one is held out. A hub
            data set with a `validation` split keeps its own.
        max_eval_samples: how many distinct paragraphs that share is at most; more are measured no better.
        validation_corpus: a text to hold out whole instead, named as `corpus` is (of a hub data set, its `validation`
            split or else `train`); what it has in common with `corpus` is not trained on.
        seed: which ones. A paragraph's place depends on its text and the seed alone, not on the order of the file.
        deduplicate: `exact`: of paragraphs that are equal but for case and white space the first is kept; `near`: of
            those that share four fifths of their five-word shingles too, and none that is held out has its like in
            training (`mlm_recipes.data.near_duplicates`); `none`.
        count_near_duplicates: whether they are counted where they are kept; by default up to 20,000 paragraphs.
        text_column: the column of a table that holds the text; by default `text`, or that with the longest strings.
        sample_by: what a paragraph of a text file is: `line`, `paragraph` (blank lines between), `document`, or `auto`
            (`mlm_recipes.data.text_files.read_text`).
        encoding, encoding_errors: of files; a codec of Python's, and `strict` or `replace`.
        config, split, revision: of a hub data set: its configuration, the split to train on, and a branch, tag or
            commit.
        sha256: what a file fetched from an http(s) address must have.

    Paragraphs that are equal but for case and white space stay on one side of the split. `example_id` is the
    paragraph's number in its text, from 0.

    Raises: ValueError with what was received and what would be accepted; FileNotFoundError for a missing file.

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
    rows, held_out, facts = read_paragraphs(source)
    if validation_source is not None:
        whole, its_held_out, facts["validation_corpus"] = read_paragraphs(validation_source)
        held_out = its_held_out or whole
    before = len(rows) + len(held_out or [])
    if deduplicate == "exact":
        rows, held_out = _first_of_each(rows), held_out and _first_of_each(held_out)
    if deduplicate == "near":
        rows, held_out = _first_of_near(rows), held_out and _first_of_near(held_out)
        rows = rows if held_out is None else _not_near(rows, held_out)
    facts["duplicates_dropped"] = before - len(rows) - len(held_out or [])
    result = (
        _with_held_out(rows, held_out)
        if held_out
        else _split(rows, validation_fraction, max_eval_samples, seed, without_credentials(str(corpus)))
    )
    facts["dropped_as_duplicate_of_validation"] = len(rows) + len(held_out or []) - sum(result.num_rows.values())
    result.facts = facts | _count(result)
    if count_near_duplicates or (count_near_duplicates is None and len(rows) <= _QUICKLY_COMPARED):
        result.facts |= _count_near(result)
    for key, said in _SAID.items():
        if facts.get(key):
            logger.info("%s: %s: %s", facts["name"], said, f"{facts[key]:,}")
    for part in result:
        result[part] = result[part].select_columns(["text", "example_id"])
    return result


def check_held_out(validation_fraction: float, max_eval_samples: int) -> None:
    """Raise ValueError for a share or a number of paragraphs that is out of its range.

    >>> check_held_out(0.1, 2_000)
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction: received {validation_fraction}. Accepted: a number above 0 and below 1, such as 0.1."
        )
    if max_eval_samples < 1:
        raise ValueError(f"max_eval_samples: received {max_eval_samples}. Accepted: 1 or more, such as 2000.")


def load_paragraphs(source: TextSource) -> Dataset:
    """Load a text whole: its paragraphs in order, with `text` and `example_id`; of a hub data set, what is held out.

    >>> len(load_paragraphs(resolve("general-english")))
    60
    """
    rows, held_out, _ = read_paragraphs(source)
    return (held_out or rows).select_columns(["text", "example_id"])


def _split(rows: Dataset, fraction: float, at_most: int, seed: int, name: str) -> Corpus:
    # The distinct paragraphs are ranked by a keyed hash and the first ones held out: exact in number, blind to the
    # order of the file, and a paragraph added to the corpus moves hardly any other across.
    ranks = sequence_keys(seed, 0, column(rows, "digest"))
    ranked = np.unique(ranks)
    if len(ranked) < 2:
        raise ValueError(
            f"corpus: {name!r} has {len(ranked)} different paragraph, too few to hold one out. Accepted: at least two, "
            "better a hundred, one a line. Put each paragraph on a line of its own."
        )
    held_out = ranks < ranked[min(max(1, round(fraction * len(ranked))), at_most, len(ranked) - 1)]
    return Corpus(train=rows.select(np.flatnonzero(~held_out)), validation=rows.select(np.flatnonzero(held_out)))


def _with_held_out(rows: Dataset, held_out: Dataset) -> Corpus:
    kept = rows.select(np.flatnonzero(~np.isin(column(rows, "digest"), column(held_out, "digest"))))
    if not len(kept):
        raise ValueError(
            "corpus: every paragraph is also in the text that is held out, so there is nothing to train on. "
            "Accepted: texts that differ. Name another validation_corpus, or save a hub data set's `train` split as a "
            "text file and name that: it is then split anew."
        )
    logger.info("A text of its own is held out; validation_fraction does not apply.")
    return Corpus(train=kept, validation=held_out)


def _first_of_each(rows: Dataset) -> Dataset:
    _, first = np.unique(column(rows, "digest"), return_index=True)
    return rows.select(np.sort(first))


def _first_of_near(rows: Dataset) -> Dataset:
    groups = near_duplicate_groups(rows["text"])
    return rows.select(np.flatnonzero(groups == np.arange(len(groups))))


def _not_near(rows: Dataset, held_out: Dataset) -> Dataset:
    groups = near_duplicate_groups(concatenate_datasets([held_out, rows])["text"])
    near = training_rows_near(groups, np.arange(len(groups)) < len(held_out))
    return rows.select(np.flatnonzero(~near[len(held_out) :]))


def _count_near(corpus: Corpus) -> dict[str, int]:
    """Count the paragraphs that have their like before them, and those trained on that have it held out."""
    groups = near_duplicate_groups(concatenate_datasets([corpus["validation"], corpus["train"]])["text"])
    held_out = np.arange(len(groups)) < len(corpus["validation"])
    return {
        "near_duplicates": int((groups != np.arange(len(groups))).sum()) - corpus.facts["duplicates"],
        "near_duplicates_of_validation": int(training_rows_near(groups, held_out).sum()),
    }


def _count(corpus: Corpus) -> dict[str, Any]:
    digests = np.concatenate([column(corpus[part], "digest") for part in corpus])
    return {
        "paragraphs": len(digests),
        "words": sum(int(column(corpus[part], "words").sum()) for part in corpus),
        "duplicates": len(digests) - len(np.unique(digests)),
        "train": len(corpus["train"]),
        "validation": len(corpus["validation"]),
    }
