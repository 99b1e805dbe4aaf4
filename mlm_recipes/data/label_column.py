"""Decides which column of a table contains the labels."""

from __future__ import annotations

from .text_column import Evidence

#: Names that people give to a column of labels.
_CALLED = ("label", "labels", "class", "category", "target", "label_text")


def choose_label_column(evidence: Evidence, label_column: str | None, text_column: str | None, name: str) -> str:
    """Return the column that contains the labels of `name`, a table.

    It is `label_column`, if given; otherwise `label`, if there is one; otherwise the only column with another usual
    name (`labels`, `class`, `category`, `target`); otherwise the only column of strings with few different values.
    `text_column` is not considered, if given.

    Raises: ValueError, with the columns that are possible, if it is not clear, or if there is none.

    >>> rows = [{"body": f"text number {n}", "topic": "ab"[n % 2]} for n in range(20)]
    >>> choose_label_column(Evidence.of(rows), None, None, "notes.csv")
    'topic'
    """
    if label_column is not None:
        found = evidence.matching(label_column) or (label_column if label_column in evidence.names else None)
        if found is None:
            raise ValueError(
                f"label_column: {name!r} has no column {label_column!r}. Accepted: {evidence.accepted()}. Pass "
                "--label_column with one of these."
            )
        return found
    called = {column.lower(): column for column in evidence.names if column != text_column}
    if "label" in called:
        return called["label"]
    usual = [called[column] for column in _CALLED if column in called]
    if len(usual) == 1:
        return usual[0]
    few = [column for column in evidence.of_kind("category") if column != text_column]
    if not usual and len(few) == 1:
        return few[0]
    choices = usual or few
    which = f"may be in {' or '.join(map(repr, choices))}" if choices else "are not in a column of a usual name"
    raise ValueError(
        f"label_column: the labels of {name!r} {which}. Accepted: {evidence.accepted()}. Pass --label_column with the "
        "one that has a label for each text."
    )
