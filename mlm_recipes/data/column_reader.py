"""Takes the texts from a chosen column, table after table, and notices if the choice was wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from ..metrics_file import TEXT_COLUMN, TextColumn, WhyColumn
from .field_paths import MISSING, items_of
from .text_column import Choice, Column, Evidence

logger = logging.getLogger(__name__)

#: The prefix of the counts of a column's characters.
CHARACTERS = "characters: "

#: The prefix of the count that says why the column was chosen.
_WHY = "text column chosen: "


class ColumnReader:
    """Takes a column's texts from one table after another, counts characters, and notices if the choice was wrong.

    Args:
        choice: the column.
        counts: gets `text_column: NAME` for each table, `rows_without_text`, `undecodable_replaced`,
            `files_without_text`, and under `characters: NAME` the characters of each column of strings.
        name: the corpus, for errors.
        streamed: whether reading goes on if a table has no such column; a warning names it.
    """

    def __init__(self, choice: Choice, counts: Counter[str], name: str, streamed: bool = False) -> None:
        self.choice, self.counts, self.name, self.streamed = choice, counts, name, streamed
        self._seen = Evidence()
        self._found = False

    def count_other(self, column: str, characters: int, examples: Iterable[str] = ()) -> None:
        """Count the characters of a column that is not the chosen one, and keep some of its values."""
        self.counts[f"{CHARACTERS}{column}"] += characters
        for text in examples:
            self._seen.columns.setdefault(column, Column()).add(text)

    def texts(
        self, rows: Iterable[tuple[int, Any]], where: Callable[[int], str], table: str, start: Evidence
    ) -> Iterator[str]:
        """Yield the texts of one table.

        Args:
            rows: of each row its number, and what it has in the column, or `MISSING`.
            where: says a row's place in an error.
            table: the table's name.
            start: what its first rows show.

        Raises: ValueError for a value that is neither a string nor nothing; if the table does not have the column, but
        has other text.
        """
        column, counts = self.choice.column, self.counts
        counts[f"{TEXT_COLUMN}{column}"] += 1
        counts[f"{_WHY}{self.choice.why}"] = 1
        self._seen.absorb(start)
        missing, characters, has = 0, 0, False
        for number, value in rows:
            has = has or value is not MISSING
            if isinstance(value, str) and value and not value.isspace():
                items: Iterable[Any] = (value,)
            else:
                items = (None,) if value is MISSING or value == [] else items_of(value)
            for item in items:
                if item is None or (isinstance(item, str) and not item.strip()):
                    missing += 1
                elif isinstance(item, str):
                    whole = item.encode("utf-8", "replace").decode()  # JSON can hold half of a surrogate pair
                    counts["undecodable_replaced"] += whole != item
                    characters += len(item)
                    yield whole
                else:
                    raise ValueError(
                        f"text_column: {where(number)}: the column {column!r} contains {type(item).__name__} "
                        f"({str(item)[:40]!r}). Accepted: a column of strings. Pass --text_column with the one that "
                        "contains the text."
                    )
        self._found = self._found or has
        counts["rows_without_text"] += missing
        counts[f"{CHARACTERS}{column}"] += characters
        if missing and not characters:
            self._without(table, has, start)

    def finish(self) -> None:
        """Compare the choice with what all rows showed.

        Raises: ValueError if another column has more text, or if no table has the column that was named.
        """
        column, counts = self.choice.column, self.counts
        if self.choice.why == "named" and not self._found and self._seen.rows:
            raise self._seen.no_column(column, self.name)
        if self.choice.why in ("named", "called text", "as the corpus"):
            return
        for name in self._seen.of_kind("text"):
            if counts[f"{CHARACTERS}{name}"] > counts[f"{CHARACTERS}{column}"]:
                raise ValueError(
                    f"text_column: the text of {self.name!r} may be in several columns: in a sample of its rows it was "
                    f"{column!r}, but in all rows {name!r} has more characters. "
                    f"{self._seen.shown([column, name])}. Accepted: one of these. Pass --text_column with the one "
                    "to train on."
                )

    def _without(self, table: str, has: bool, start: Evidence) -> None:
        """Deal with a table that has no text in the column."""
        self.counts["files_without_text"] += 1
        if self.choice.why not in ("named", "as the corpus") and not has and not self.streamed:
            start.refuse_other_text(self.choice, table)
        logger.warning("%s: no text in the column %r; nothing of this file is used.", table, self.choice.column)


def column_facts(counts: Mapping[str, int]) -> TextColumn | None:
    """Return what metrics.json has under `text_column`, from what a `ColumnReader` counted; None without tables."""
    found = [key.removeprefix(TEXT_COLUMN) for key in counts if key.startswith(TEXT_COLUMN)]
    if not found:
        return None
    column = found[0]
    others = {
        key.removeprefix(CHARACTERS): number
        for key, number in counts.items()
        if key.startswith(CHARACTERS) and key != f"{CHARACTERS}{column}" and number
    }
    why = next(key.removeprefix(_WHY) for key in counts if key.startswith(_WHY))
    return {"name": column, "why": cast(WhyColumn, why), "characters_of_others": others}
