"""Says which text was read: the column, the files, the splits, and how much of it was kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ..metrics_file import Characters, CorpusFacts, LoadedCorpus, SplitRole, StreamedCorpus, TextColumn
from .wording import count

#: If less than this share of the characters is kept, it is said why.
_NEARLY_ALL = 0.9

_WHY = {
    "named": "as text_column says",
    "called text": "it is called text",
    "only column": "the only column of strings",
    "most characters": "it has the most text",
    "as the corpus": "as in the text that is trained on",
}


def how_read(facts: CorpusFacts | LoadedCorpus | StreamedCorpus) -> Iterator[str]:
    """Yield a sentence for each thing that was decided or left out while a text was read.

    `facts` is `corpus` in metrics.json, or the facts of a `Corpus`. For a plain text that was kept, there is nothing to
    say.

    >>> facts = {"text_column": {"name": "body", "why": "most characters", "characters_of_others": {"url": 50}}}
    >>> list(how_read(facts | {"characters": {"read": 100, "kept": 100, "left_out": {}}}))
    ["The text is the column 'body' (it has the most text); 33% of the characters are in url, which is not read."]
    """
    characters = None if "streamed" in facts else cast("Characters | None", facts.get("characters"))
    if "text_column" in facts:
        yield _column(facts["text_column"], characters)
    if facts.get("files_without_header"):
        yield f"Without a header, so that columns are numbered: {count(facts['files_without_header'], 'file')}."
    if facts.get("tables_read_as_text"):
        yield (
            f"Plain text in spite of their names, not tables: {count(facts['tables_read_as_text'], 'file')}, read as a "
            ".txt file."
        )
    if facts.get("files_without_text"):
        yield f"Without any text in that column, and not used: {count(facts['files_without_text'], 'file')}."
    if "splits" in facts:
        yield _splits(facts["splits"], "validation_corpus" in facts)
    if characters is not None and characters["kept"] < _NEARLY_ALL * characters["read"]:
        left_out = sorted(characters["left_out"].items(), key=lambda item: -item[1])
        why = ", ".join(f"{number:,} in {what}" for what, number in left_out)
        yield f"{characters['kept']:,} of the text's {characters['read']:,} characters are kept; left out: {why}."


def _column(column: TextColumn, characters: Characters | None) -> str:
    said = f"The text is the column {column['name']!r} ({_WHY[column['why']]}"
    if "rows_examined" in column:
        said += f" in the {count(column['rows_examined'], 'row')} examined"
    others = column["characters_of_others"]
    if not others or characters is None:
        return f"{said})."
    share = sum(others.values()) / (sum(others.values()) + characters["read"])
    names = list(others)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    are = "which is" if len(names) == 1 else "which are"
    said_share = "under 1%" if share < 0.01 else f"{share:.0%}"
    return f"{said}); {said_share} of the characters are in {', '.join(names[:5])}{more}, {are} not read."


def _splits(splits: dict[str, SplitRole], separate: bool) -> str:
    by_role: dict[SplitRole, list[str]] = {}
    for name, role in splits.items():
        by_role.setdefault(role, []).append(name)
    trained = ", ".join(by_role.get("trained on", []))
    said = f"Its split {trained} is trained on"
    if "held out" in by_role:
        said += f", {', '.join(by_role['held out'])} is held out"
    elif not separate:
        said += " and partly held out"
    if "not read" in by_role:
        said += f"; not read: {', '.join(by_role['not read'])}"
    return f"{said}."
