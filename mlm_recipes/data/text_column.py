"""Decides which column of a table contains the text, once for all files of a corpus, on evidence from all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..metrics_file import TextColumn, WhyColumn
from ..sources.escaping import one_line
from .field_paths import strings_in

Record = Mapping[str, Any]

#: Of two columns that may both be the text, the one with this many times the other's characters is.
_CLEARLY = 3

#: A column called `text` is the text if this share of the rows has text there.
_NEARLY_ALL = 0.9

#: How many values of a column are kept from each file, and from how many paths; how many an error shows.
_KEPT, _PATHS, _SHOWN = 200, 1_000, 8

#: What a person does not write as text: numbers, times, addresses, file names, hashes.
_NOT_TEXT = re.compile(
    r"[\d\s.,:/+%'TZ-]*\d[\d\s.,:/+%'TZ-]*"
    r"|\w+://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.]+"
    r"|[^\s]*[/\\][^\s]*\.\w{1,5}|[\w.-]+\.[A-Za-z]\w{1,4}"
    r"|(?=[0-9A-Fa-f-]*\d)[0-9A-Fa-f-]{16,}"
    r"|(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9+/_-]{100,}={0,2}"
)
_ID = re.compile(r"(?=.*\d)[!-~]+")


def is_text(value: str) -> bool:
    """Tell whether a cell may be text, and is not a number, a time, an address, a file name or a hash.

    >>> [is_text(value) for value in ("to be or not", "3.5", "https://example.org/a", "clip_1.mp3")]
    [True, False, False, False]
    """
    return not _NOT_TEXT.fullmatch(value.strip())


def _shape(value: str) -> str:
    """Return a value with its letters and digits made equal: identifiers of one kind have the same shape."""
    return re.sub("[A-Za-z]+", "a", re.sub(r"\d+", "9", value))


@dataclass
class Column:
    """What is known of a column: how many values with text it has, their characters, and some of them."""

    texts: int = 0
    characters: int = 0
    listed: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str, listed: bool = False) -> None:
        """Count a value."""
        if not text.strip():
            return
        self.texts, self.characters, self.listed = self.texts + 1, self.characters + len(text), self.listed + listed
        if len(self.examples) < _KEPT:
            self.examples.append(text[:500])

    @property
    def kind(self) -> str:
        """`text`; `category`, if few values repeat; or `key`: numbers, addresses, file names, identifiers."""
        values = [value.strip() for value in self.examples]
        if not values or sum(not is_text(value) for value in values) >= 0.9 * len(values):
            return "key"
        named = [value for value in values if _ID.fullmatch(value)]
        if len(named) >= max(3, 0.9 * len(values)):
            shapes = Counter(map(_shape, named))
            if shapes.most_common(1)[0][1] >= 0.8 * len(values):
                return "key"
        return "category" if len(values) >= 20 and len(set(values)) <= 0.2 * len(values) else "text"

    def has_like(self, value: str) -> bool:
        """Tell whether a column of numbers, identifiers and the like has values like this one."""
        return not is_text(value) or _shape(value.strip()) in map(_shape, self.examples)

    @property
    def single_words(self) -> bool:
        """Tell whether the column has lists of words, not of texts."""
        return self.listed > 0 and sum(len(value.split()) > 1 for value in self.examples) < 0.2 * len(self.examples)


@dataclass
class Evidence:
    """What the columns of a table contain, from some or all of its rows.

    >>> found = Evidence.of([{"id": "a1", "body": "to be or not", "n": 1}])
    >>> found.columns["body"].characters, list(found.names)
    (12, ['id', 'body', 'n'])
    """

    rows: int = 0
    names: dict[str, None] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Record]) -> Evidence:
        """Return what some rows show."""
        found = cls()
        for row in rows:
            found.rows += 1
            found.names.update(dict.fromkeys(row))
            for path, text, listed in strings_in(row):
                if path in found.columns or len(found.columns) < _PATHS:
                    found.columns.setdefault(path, Column()).add(text, listed)
        return found

    @classmethod
    def pooled(cls, parts: Iterable[Evidence]) -> Evidence:
        """Return what several tables show together."""
        found = cls()
        for part in parts:
            found.absorb(part)
        return found

    def absorb(self, part: Evidence) -> None:
        """Add what a table shows."""
        self.rows += part.rows
        self.names.update(part.names)
        for path, column in part.columns.items():
            into = self.columns.setdefault(path, Column())
            into.texts, into.characters = into.texts + column.texts, into.characters + column.characters
            into.listed += column.listed
            into.examples += column.examples[: 10 * _KEPT - len(into.examples)]

    def has(self, column: str) -> bool:
        """Tell whether any row has this column or path, with or without text."""
        return column in self.names or column in self.columns or any(self._below(column))

    def matching(self, column: str) -> str | None:
        """Return the column, or the one path that ends with that name; None if there is none."""
        ends = [path for path in self.columns if path.endswith(f".{column}")]
        return column if self.has(column) else ends[0] if len(ends) == 1 else None

    def no_column(self, column: str, name: str) -> ValueError:
        """Return the error for a column that is not there."""
        return ValueError(
            f"text_column: {name!r} has no column {column!r}. Accepted: one of {self.accepted()}. Pass --text_column "
            "with the one that contains the text."
        )

    def _below(self, column: str) -> Iterator[str]:
        return (path for path in self.columns if path.startswith(f"{column}."))

    def of_kind(self, *kinds: str) -> dict[str, int]:
        """Return the columns of these kinds with their characters, those with the most first."""
        found = {name: each.characters for name, each in self.columns.items() if each.texts and each.kind in kinds}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def refuse_other_text(self, choice: Choice, table: str) -> None:
        """Raise ValueError if a table does not have the chosen column, but has other text."""
        other = self.of_kind("text")
        if other and not self.has(choice.column):
            raise ValueError(
                f"text_column: the text is in the column {choice.column!r} of other files, but {table!r} has no such "
                f"column. It has {self.shown(other)}. Accepted: files with their text in one column. Pass "
                f"--text_column {choice.column} to leave out files without it, or name the files that have the same "
                "columns, as a pattern."
            )

    def accepted(self) -> str:
        """Return the names and paths that `text_column` accepts, for an error."""
        nested = {path for path in self.columns if path not in self.names}
        tops = {path.split(".")[0] for path in nested}
        names = [*(name for name in self.names if name not in tops), *sorted(nested)]
        return _listed(list(map(str, names)))

    def shown(self, columns: Iterable[str]) -> str:
        """Return columns, each with the beginning of a value, for an error."""
        texts = {name: max(self.columns[name].examples[:20], key=len) for name in columns}
        return _listed([f"{name} (\u201c{_begin(text)}\u201d)" for name, text in texts.items()])


@dataclass(frozen=True)
class Choice:
    """The column that is read, why, and how many rows were examined to choose it."""

    column: str
    why: WhyColumn
    rows: int = 0

    def facts(self) -> TextColumn:
        """Return what metrics.json has under `text_column` of a stream."""
        return {"name": self.column, "why": self.why, "characters_of_others": {}, "rows_examined": self.rows}


def choose_column(evidence: Evidence, text_column: str | None, name: str, part: bool = False) -> Choice:
    """Return the column that contains the text of `name`, a table or all tables of a corpus.

    It is `text_column`, if given. If the evidence is only a `part` of the rows, this may be a column that is not in it.
    Otherwise it is `text`, if nearly all rows have text there; otherwise the one column that may be text, or among
    several the one with three times the characters of any other.

    Raises: ValueError, with the columns that are possible and a value of each, if the text may be in several, or if
    there is none.

    >>> rows = [{"id": "a", "body": "to be or not"}]
    >>> choose_column(Evidence.of(rows), None, "notes.jsonl")
    Choice(column='body', why='most characters', rows=1)
    """
    if text_column is not None and part and not evidence.matching(text_column):
        return Choice(text_column, "named", evidence.rows)
    if text_column is not None:
        return Choice(_named(evidence, text_column, name), "named", evidence.rows)
    texts = evidence.of_kind("text") or evidence.of_kind("category")
    if not texts:
        keys = evidence.of_kind("key")
        has = evidence.shown(keys) if keys else ", ".join(map(str, evidence.names)) or "it has none"
        raise ValueError(
            f"text_column: none of the columns of {name!r} contains text ({has}). Accepted: a table with a column of "
            f"strings. {'Pass --text_column with one of these if it is the text, or name' if keys else 'Name'} a "
            "different file."
        )
    first, *others = texts
    called = next((path for path in texts if path == _within(texts) + "text"), None)
    if called and (evidence.columns[called].texts >= _NEARLY_ALL * evidence.rows or not others):
        return _usable(evidence, Choice(called, "called text", evidence.rows), name)
    if others and texts[first] < _CLEARLY * texts[others[0]]:
        likely = [path for path in texts if _CLEARLY * texts[path] > texts[first]]
        raise ValueError(
            f"text_column: the text of {name!r} may be in several columns: {evidence.shown(likely)}. Accepted: one of "
            "these. Pass --text_column with the one to train on."
        )
    why: WhyColumn = "only column" if len(evidence.of_kind("text", "category", "key")) == 1 else "most characters"
    return _usable(evidence, Choice(first, why, evidence.rows), name)


def _named(evidence: Evidence, text_column: str, name: str) -> str:
    """Return the column or path that `text_column` names."""
    found = evidence.matching(text_column)
    if found is None:
        raise evidence.no_column(text_column, name)
    within = list(evidence._below(found))
    if found not in evidence.columns and within:
        raise ValueError(
            f"text_column: {text_column!r} in {name!r} has fields of its own. Accepted: one of "
            f"{evidence.shown(within)}. Pass --text_column with the one that contains the text."
        )
    return _usable(evidence, Choice(found, "named"), name).column


def _usable(evidence: Evidence, choice: Choice, name: str) -> Choice:
    column = evidence.columns.get(choice.column)
    if column is not None and column.single_words:
        some = ", ".join(repr(_begin(value)) for value in column.examples[:4])
        raise ValueError(
            f"text_column: {choice.column!r} of {name!r} has lists of single words ({some}, ...), each of which would "
            "be a paragraph. Accepted: strings, or lists of texts. Join the words of each row into one string, or pass "
            "--text_column with another column."
        )
    return choice


def _within(paths: Iterable[str]) -> str:
    """Return the path that all have in common, such as `data.`; the text is often called `text` within it."""
    parts = [path.split(".")[:-1] for path in paths]
    common = next((n for n, level in enumerate(zip(*parts, strict=False)) if len(set(level)) > 1), min(map(len, parts)))
    return "".join(f"{part}." for part in parts[0][:common])


def _begin(text: str) -> str:
    shown = one_line(text[:80])
    return shown if len(shown) <= 48 else f"{shown[:47]}\u2026"


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
