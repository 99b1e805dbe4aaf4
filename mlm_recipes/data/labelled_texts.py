"""Reads texts with labels from a table: a bundled probe, a file, a folder, an address, or a data set of the hub."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..masking.random_keys import Ints
from ..probes_file import LabelsLeftOut
from ..sources.credentials import without_credentials
from ..sources.hub_datasets import load_splits
from ..sources.names import did_you_mean, looks_like_path
from .corpus_name import Reading, TextSource, resolve
from .field_paths import MISSING, value_at
from .file_formats import path_kind
from .label_column import choose_label_column
from .tables import sample_table, table_records
from .text_column import Evidence, choose_column

logger = logging.getLogger(__name__)

PROBES = Path(__file__).parent.parent / "bundled/probes"

#: A label with fewer texts than this counts as rare, and at least two labels must not be rare.
RARE = 5

#: The fewest texts, and the most labels for each text, of which anything can be learned.
_FEWEST, _MOST_LABELS = 30, 0.2

#: How many rows of a hub data set tell which column is which.
_SAMPLE = 1_000


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, the number of each one's label, shape `(texts,)`, and the labels' names."""

    name: str
    source: str
    texts: list[str]
    labels: Ints
    names: list[str]
    left_out: LabelsLeftOut
    text_column: str
    label_column: str
    licence: str | None = None

    def part(self, chosen: Ints) -> LabelledTexts:
        """Return some of the texts, by their indices."""
        return replace(self, texts=[self.texts[index] for index in chosen], labels=self.labels[chosen])

    def fingerprint(self) -> str:
        """Return the sha256 of all texts and labels; results of the same ones can be compared."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels.tolist(), strict=True):
            digest.update(f"{len(text)} {self.names[label]}\n{text}\n".encode("utf-8", "replace"))
        return digest.hexdigest()


def known_probes() -> dict[str, dict[str, Any]]:
    """Return the metadata of the bundled probes, by name.

    >>> list(known_probes())
    ['stoic']
    """
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(PROBES.glob("*.yaml"))}


def load_labelled(
    name: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    most: int = 2_000,
    seed: int = 0,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
) -> LabelledTexts:
    """Read a table of labelled texts.

    Args:
        name: a bundled probe; a file of JSON lines, JSON, CSV, TSV, Parquet or Arrow, a folder, a pattern or an http(s)
            URL of such; or a data set of the hub, owner/name, owner/name:configuration, or
            owner/name:configuration:split.
        text_column, label_column: the columns, or paths such as `data.label`; by default chosen
            (`mlm_recipes.data.text_column.choose_column`, `mlm_recipes.data.label_column.choose_label_column`).
        most: of more rows, so many are drawn at random.
        seed: of that draw.
        encoding, encoding_errors: of text files.

    Rows without a text or without a label are left out and counted. Raises: FileNotFoundError or ValueError for a table
    that is not there or cannot be read; ValueError if it is not clear which column is which, or if nothing could be
    learned from it: fewer than 30 texts, fewer than two labels with five texts, or a label for nearly each text.

    >>> found = load_labelled("stoic")
    >>> found.names, found.text_column, found.label_column
    (['other', 'stoic'], 'text', 'label')
    """
    try:
        called, source, licence, rows, columns = _opened(name, text_column, label_column, encoding, encoding_errors)
        texts, labels, left_out = _read(rows, *columns, name)
    except ValueError as error:
        raise ValueError(_of_probe(str(error))) from error
    _require_enough(labels, name, columns[1])
    if len(texts) > most:
        kept = np.sort(np.random.default_rng(seed).permutation(len(texts))[:most]).tolist()
        left_out["beyond_max"] = len(texts) - most
        texts, labels = [texts[row] for row in kept], [labels[row] for row in kept]
    numeric = all(label.removeprefix("-").isdecimal() for label in labels)
    names = sorted(set(labels), key=int if numeric else str)
    number = {label: index for index, label in enumerate(names)}
    numbers = np.array([number[label] for label in labels], dtype=np.int64)
    return LabelledTexts(called, source, texts, numbers, names, left_out, *columns, licence)


_Opened = tuple[str, str, str | None, Iterable[tuple[int, Mapping[str, Any]]], tuple[str, str]]


def _opened(
    name: str, text_column: str | None, label_column: str | None, encoding: str, encoding_errors: str
) -> _Opened:
    """Return a table's name, its source, its licence, its rows, and its columns of texts and labels."""
    bundled = known_probes().get(name)
    if bundled is not None:
        if path_kind(name):
            logger.warning("probe: %r is the bundled probe. To read the file or folder, name it ./%s", name, name)
        source = resolve(str(PROBES / bundled["file"]), Reading())
        place: tuple[str, str, str | None] = name, "bundled", bundled["licence"]
        encoding, text_column, label_column = "utf-8", "text", "label"
    elif _is_hub(name):
        return _on_hub(name, text_column, label_column)
    else:
        if name == "-":
            raise ValueError("corpus: received '-', standard input. Accepted: a file. Write the table to a file.")
        if not looks_like_path(name) and not path_kind(name) and "://" not in name:
            raise ValueError(
                f"corpus: {name!r} is neither a bundled probe nor a file or folder here."
                f"{did_you_mean(name, known_probes())} Accepted: {', '.join(known_probes())}, a table of texts and "
                "labels (CSV, TSV, JSON lines, JSON, Parquet, Arrow), or a hub id owner/name. Check the name."
            )
        source = resolve(name, Reading(encoding=encoding, encoding_errors=encoding_errors))
        place = source.name, without_credentials(source.source), None
    for file, format in source.files:
        if format in ("text", "markdown"):
            raise ValueError(
                f"corpus: {str(file)!r} is plain text. Accepted: a table of texts and labels (CSV, TSV, JSON lines, "
                "JSON, Parquet, Arrow). Write one with the columns text and label."
            )
    samples = [sample_table(file, format, text_column, encoding, encoding_errors) for file, format in source.files[:64]]
    columns = _columns(Evidence.pooled(samples), text_column, label_column, name)
    return (*place, _records(source, columns, encoding, encoding_errors), columns)


def _records(
    source: TextSource, columns: tuple[str, str], encoding: str, encoding_errors: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for file, format in source.files:
        yield from table_records(file, format, columns, encoding, encoding_errors)


def _is_hub(name: str) -> bool:
    if looks_like_path(name) or path_kind(name) or "://" in name:
        return False
    return name.split(":")[0].count("/") == 1


def _on_hub(name: str, text_column: str | None, label_column: str | None) -> _Opened:
    owner, *rest = name.split(":")
    config, split = [*rest, "", ""][:2]
    splits: Any = load_splits(owner, config=config or None)
    chosen = split or ("train" if "train" in splits or len(splits) > 1 else next(iter(splits)))
    if chosen not in splits:
        raise ValueError(
            f"corpus: {name!r} has the splits {', '.join(splits)}, not {chosen!r}. Accepted: one of these, as "
            f"{owner}:CONFIGURATION:SPLIT. Name one."
        )
    rows = splits[chosen]
    spread = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int))
    columns = _columns(Evidence.of(rows.select(spread)), text_column, label_column, name)
    named = getattr(rows.features.get(columns[1]), "names", None)  # of a ClassLabel, whose values are numbers

    def records() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, row in enumerate(rows.select_columns([column.split(".")[0] for column in dict.fromkeys(columns)])):
            label = row.get(columns[1])
            if named and isinstance(label, int):
                row = row | {columns[1]: named[label] if label >= 0 else None}  # -1: hidden, in test splits
            yield number + 1, row

    origin: tuple[str, str, str | None] = owner.split("/")[1], f"hub:{name}", None
    return (*origin, records(), columns)


def _columns(evidence: Evidence, text_column: str | None, label_column: str | None, name: str) -> tuple[str, str]:
    """Return the columns of texts and of labels."""
    if not evidence.rows:
        raise ValueError(f"corpus: {name!r} has no rows. Accepted: a table of texts and labels. Name another one.")
    label = choose_label_column(evidence, label_column, text_column, name)
    evidence.columns.pop(label, None)  # however often it repeats, it is not the text
    return choose_column(evidence, text_column, name).column, label


def _read(
    rows: Iterable[tuple[int, Mapping[str, Any]]], text_column: str, label_column: str, name: str
) -> tuple[list[str], list[str], LabelsLeftOut]:
    texts, labels = [], []
    left_out: LabelsLeftOut = {"without_text": 0, "without_label": 0, "beyond_max": 0}
    for number, row in rows:
        text, label = value_at(row, text_column), value_at(row, label_column)
        if text is not None and text is not MISSING and not isinstance(text, str):
            raise ValueError(
                f"text_column: {name}, row {number}: the column {text_column!r} contains {type(text).__name__}. "
                "Accepted: strings. Pass --text_column with the column of texts."
            )
        said = _label(label, f"{name}, row {number}", label_column)
        if text is None or text is MISSING or not text.strip():
            left_out["without_text"] += 1
        elif said is None:
            left_out["without_label"] += 1
        else:
            texts.append(text.encode("utf-8", "replace").decode())
            labels.append(said)
    return texts, labels, left_out


def _label(value: Any, where: str, column: str) -> str | None:
    """Return a label as a string; None if there is none."""
    if value is None or value is MISSING or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int):  # and bool
        return str(value).strip() or None
    raise ValueError(
        f"label_column: {where}: the column {column!r} contains {type(value).__name__} ({str(value)[:40]}). Accepted: "
        "one label for each text, a string or a whole number. Pass --label_column with another column."
    )


def _require_enough(labels: list[str], name: str, column: str) -> None:
    counts = Counter(labels)
    usual = [label for label, number in counts.items() if number >= RARE]
    if len(labels) < _FEWEST or len(usual) < 2:
        raise ValueError(
            f"probe: {name!r} has {len(labels):,} texts with a label, and {len(usual)} labels with {RARE} texts or "
            f"more (column {column!r}). Accepted: {_FEWEST} texts or more, and two such labels. Add labelled texts, or "
            "pass --probe_label_column with another column."
        )
    if len(counts) > max(2, _MOST_LABELS * len(labels)):
        raise ValueError(
            f"probe: the column {column!r} of {name!r} has {len(counts):,} different values in {len(labels):,} rows, "
            "too many for labels. Accepted: a label for each five texts or more. Pass --probe_label_column with "
            "another column."
        )


def _of_probe(message: str) -> str:
    """Return the message of an error about a corpus as one about a probe, whose options have other names."""
    message = re.sub(r"\b(text|label)_column\b", r"probe_\1_column", message)
    message = re.sub(r"^corpus(_config|_split)?:", "probe:", message)
    message = message.replace("the one to train on", "the one to classify")
    return message.replace("Pass --corpus_config with one", "Name it as owner/name:CONFIGURATION, with one")
