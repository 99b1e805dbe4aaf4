"""Reads pairs of texts with a score each, or with whether they match."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics_file import PairKind
from .file_formats import stem
from .placed_rows import Placed, column_named, fingerprint, placed_rows

#: What the two columns of texts may be called: as in the STS benchmark, MRPC, SICK and QQP, and by people.
TEXTS = (
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
)

#: What the column of scores may be called.
SCORES = ("score", "similarity", "similarity_score", "relatedness_score", "match", "is_duplicate", "label")

#: Words for whether a pair matches.
_MATCH = {"match": True, "yes": True, "true": True, "no match": False, "no_match": False, "no": False, "false": False}

#: With fewer pairs, an interval cannot be trusted.
FEWEST = 10


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts, and how similar people find each: the higher the number, the more.

    With the kind `match`, the scores are 1 for pairs that match and 0 for the others.
    """

    name: str
    first: list[str]
    second: list[str]
    scores: list[float]
    kind: PairKind

    def fingerprint(self) -> str:
        """Return a hash of the pairs and their scores, in their order."""
        return fingerprint(zip(self.first, self.second, self.scores, strict=True))


def read_pairs(path: str | Path, encoding: str = "utf-8", encoding_errors: str = "strict") -> TextPairs:
    """Read pairs from a table (JSON lines, JSON, CSV, TSV, Parquet or Arrow).

    Two columns hold the texts, such as `text1` and `text2` or `sentence1` and `sentence2`; one, such as `score` or
    `label`, holds numbers. If these are only 0 and 1, or `match` and `no match`, yes and no, true and false, they say
    whether the texts match.

    Raises: ValueError for a file that cannot be read, other columns, a row without a text or a score, fewer than ten
    pairs, and scores that are all the same.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "pairs.csv"
    >>> _ = path.write_text("sentence1,sentence2,score\\n" + "to be,not to be,2.5\\nto die,to sleep,4\\n" * 5)
    >>> pairs = read_pairs(path)
    >>> pairs.name, len(pairs.first), pairs.second[1], pairs.scores[1], pairs.kind
    ('pairs', 10, 'to sleep', 4.0, 'score')
    """
    path = Path(path).expanduser()
    known = [*(name for both in TEXTS for name in both), *SCORES]
    rows = placed_rows(path, "probe_pairs", known, encoding, encoding_errors)
    one, other = _text_columns(rows, path)
    score = _score_column(rows, path)
    first, second, values = [], [], []
    for place, row in rows:
        first.append(_text(row, one, place))
        second.append(_text(row, other, place))
        values.append((place, row.get(score)))
    if len(rows) < FEWEST:
        raise ValueError(
            f"probe_pairs: {str(path)!r} has {len(rows)} pairs. Accepted: {FEWEST} or more; a few hundred show a "
            "difference. Add pairs."
        )
    kind, scores = _scores(values, score)
    if len(set(scores)) == 1:
        raise ValueError(
            f"probe_pairs: all pairs of {str(path)!r} have the same {score}, {values[0][1]!r}, so there is nothing to "
            "rank. Accepted: pairs with different scores, or both pairs that match and pairs that do not. Add some."
        )
    return TextPairs(stem(path), first, second, scores, kind)


def _text_columns(rows: list[Placed], path: Path) -> tuple[str, str]:
    found = []
    for both in TEXTS:
        columns = [column_named(rows, [name]) for name in both]
        if all(columns):
            found.append((columns[0][0], columns[1][0]))
    if len(found) != 1:
        raise _other_columns("two columns of texts", " or ".join(map(" and ".join, TEXTS)), found, rows, path)
    return found[0]


def _score_column(rows: list[Placed], path: Path) -> str:
    found = column_named(rows, SCORES)
    if len(found) != 1:
        raise _other_columns("a column of scores", ", ".join(SCORES), [(name,) for name in found], rows, path)
    return found[0]


def _other_columns(what: str, names: str, found: list[Any], rows: list[Placed], path: Path) -> ValueError:
    columns = ", ".join(dict.fromkeys(name for _, row in rows for name in row))
    several = f", several of which could be {what}: {'; '.join(map(' and '.join, found))}" if found else ""
    return ValueError(
        f"probe_pairs: {str(path)!r} has the columns {columns}{several}. Accepted: {what}, called {names}. Rename or "
        "remove columns."
    )


def _text(row: Mapping[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"probe_pairs: {place}: {column} is {value!r}. Accepted: a text. Correct or remove that row.")
    return value


def _scores(values: list[tuple[str, Any]], column: str) -> tuple[PairKind, list[float]]:
    words = [_MATCH.get(value.strip().lower()) if isinstance(value, str) else None for _, value in values]
    if all(word is not None for word in words) or all(isinstance(value, bool) for _, value in values):
        given = words if words[0] is not None else [value for _, value in values]
        return "match", [float(bool(value)) for value in given]
    scores = []
    for place, value in values:
        try:
            scores.append(float(value) if not isinstance(value, bool) else math.nan)
        except (TypeError, ValueError):
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise ValueError(
                f"probe_pairs: {place}: {column} is {value!r}. Accepted: a number, or match and no match, yes and no, "
                "true and false in all rows. Correct or remove that row."
            )
    return "match" if set(scores) <= {0.0, 1.0} else "score", scores
