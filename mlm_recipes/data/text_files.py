"""Divides a text file into paragraphs, and counts what is dropped or changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from .text_blocks import lines_of, text_blocks

#: The ways to divide a text file into paragraphs.
SAMPLE_BY = ("auto", "line", "paragraph", "document")

#: A longer paragraph is cut, at white space if possible, since a paragraph has to fit in memory. In characters.
LONGEST = 100_000

_GUTENBERG = re.compile(r"\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.IGNORECASE)


def read_text(
    path: Path,
    counts: Counter[str],
    sample_by: str = "auto",
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    """Yield the paragraphs of a text file, in order.

    Args:
        counts: gets `blank_lines_dropped`, `gutenberg_lines_dropped` (header and footer of Project Gutenberg),
            `very_long_cut` (paragraphs of more than `LONGEST` characters), `undecodable_replaced`, and
            `files_read_by_line`, `files_read_by_paragraph` or `files_read_by_document`; and `characters_read` and
            `characters_gutenberg`, those of all lines and of the dropped ones, without line ends.
        sample_by: what a paragraph is: `line`; `paragraph`, the lines between two blank lines, joined; `document`, the
            whole file; or `auto`: `paragraph` if the first 10,000 lines are wrapped (`are_wrapped`), otherwise `line`.
        encoding, encoding_errors, position: as for `text_blocks`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> _ = path.write_text("A line that was\\nwrapped goes on\\nso.\\n\\nThe second one is\\nwrapped as well\\nno?\\n")
    >>> list(read_text(path, Counter()))
    ['A line that was wrapped goes on so.', 'The second one is wrapped as well no?']
    >>> list(read_text(path, Counter(), sample_by="line"))[:2]
    ['A line that was', 'wrapped goes on']
    """
    blocks = _counted(text_blocks(path, counts, encoding, encoding_errors, position), counts)
    lines = _without_gutenberg(lines_of(blocks), counts)
    if sample_by == "auto":
        start = list(islice(lines, 10_000))
        sample_by, lines = ("paragraph" if are_wrapped(start) else "line"), chain(start, lines)
    counts[f"files_read_by_{sample_by}"] += 1
    units = {"line": _by_line, "paragraph": _by_paragraph, "document": _by_document}[sample_by](lines, counts)
    for unit in units:
        if len(unit) <= LONGEST:
            yield unit
        else:
            counts["very_long_cut"] += 1
            yield from _cut(unit)


def are_wrapped(lines: list[str]) -> bool:
    """Tell whether `lines` are paragraphs that were wrapped, with blank lines between the paragraphs.

    They are if

    - there are on average three or more lines between two blank lines
    - the long lines (the 90th percentile) have at most 120 characters
    - four in five of the lines that are followed by a line are at least three quarters as long as the long lines

    >>> are_wrapped(["some words", "and others", "end", "", "once again", "some words", "end"])
    True
    >>> are_wrapped(["A whole sentence.", "Yes.", "A second one, longer.", "", "So.", "It ends here.", "No."])
    False
    """
    lengths = [len(line.strip()) for line in lines]
    starts = sum(now > 0 and not before for before, now in zip([0, *lengths], lengths, strict=False))
    filled = sorted(length for length in lengths if length)
    if len(filled) == len(lengths) or starts < 2 or len(filled) < 3 * starts:
        return False
    long = filled[len(filled) * 9 // 10]
    followed = [now for now, after in pairwise(lengths) if now and after]
    return long <= 120 and sum(length >= 0.75 * long for length in followed) >= 0.8 * len(followed)


def _counted(blocks: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    for block in blocks:
        counts["characters_read"] += len(block) - block.count("\n")
        yield block


def _by_line(lines: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    blank = 0
    for line in lines:
        if line and not line.isspace():
            yield line
        else:
            blank += 1
    counts["blank_lines_dropped"] += blank


def _by_paragraph(lines: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    block: list[str] = []
    for line in chain(lines, [""]):
        if stripped := line.strip():
            block.append(stripped)
        elif block:
            yield " ".join(block)
            block = []


def _by_document(lines: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    text = "\n".join(lines).strip()
    if text:
        yield text


def _without_gutenberg(lines: Iterator[str], counts: Counter[str]) -> Iterator[str]:
    """Remove the headers and footers of Project Gutenberg's texts; a file may contain several texts."""
    head = list(islice(lines, 1000))
    marks = [i for i, line in enumerate(head) if _GUTENBERG.match(line)]
    if not marks:
        yield from head
        yield from lines
        return
    # Lines before the header were added by the user. If the first mark is an end mark, the book is before it.
    begins = next((i for i, line in enumerate(head[: marks[0]]) if "project gutenberg" in line.lower()), marks[0])
    if not _starts(head[marks[0]]):
        begins = marks[0]
    yield from head[:begins]
    inside = False
    for line in chain(head[begins:], lines):
        mark = _GUTENBERG.match(line)
        if mark:
            inside = _starts(line)
        if inside and not mark:
            yield line
        else:
            counts["gutenberg_lines_dropped"] += 1
            counts["characters_gutenberg"] += len(line)


def _starts(line: str) -> bool:
    mark = _GUTENBERG.match(line)
    return mark is not None and mark.group(1).upper() == "START"


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > LONGEST:
        space = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        end = space if space > start else start + LONGEST
        yield text[start:end]
        start = end + (space > start)
    yield text[start:]
