"""From a text file to its paragraphs, with a count of all that was dropped or changed on the way."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

#: What a paragraph of a text file is.
SAMPLE_BY = ("auto", "line", "paragraph", "document")

#: A paragraph of more characters than this is cut, at white space where there is some: one at a time is in memory.
LONGEST = 100_000

_GUTENBERG = re.compile(r"\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.IGNORECASE)
_BLOCK = 2**20

# By their first bytes, whatever they are called.
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": lambda path: pa.CompressedInputStream(str(path), "zstd"),
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_NO_TEXT = {
    b"%PDF": ("a PDF", "Take its text out first: pdftotext FILE text.txt"),
    b"PK\x03\x04": (
        "an archive or an office document",
        "Unpack it, or save it as plain text, and name the folder or the file",
    ),
}


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its first bytes are those of gzip, zstd, bzip2 or xz.

    Raises: ValueError for a PDF, an archive, or what is neither a file nor readable.
    """
    try:
        if not path.is_file():
            raise OSError("it is not a regular file" if path.exists() else "there is nothing at the end of its links")
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise ValueError(
            f"corpus: {path} cannot be read ({error.strerror or error}). Accepted: a file that you may read; text from "
            "a pipe comes as --corpus -. Check its permissions and its links."
        ) from error
    for magic, (what, mend) in _NO_TEXT.items():
        if start.startswith(magic):
            raise ValueError(f"corpus: {path} is {what}. Accepted: plain text, JSON lines, CSV, Parquet. {mend}.")
    for magic, decompress in _COMPRESSED.items():
        if start.startswith(magic):
            return decompress(path)
    return path.open("rb")


def blocks(path: Path, position: Callable[[int], Any] = lambda _: None) -> Iterator[bytes]:
    """Yield a file's bytes, decompressed, about a megabyte at a time, each block but the last up to a line's end.

    `position` is told how many bytes were taken from the disk so far.

    Raises: ValueError for a compressed file that breaks off or is damaged.
    """
    with open_bytes(path) as file:
        rest: list[bytes] = []
        done = 0
        while block := _read(file, path):
            done += len(block)
            position(done)
            cut = block.rfind(b"\n") + 1
            if cut:
                yield b"".join([*rest, block[:cut]])
                rest = []
            rest.append(block[cut:])
        if last := b"".join(rest):
            yield last


def _read(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(_BLOCK)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"corpus: {path} cannot be read to its end ({error}). Accepted: a file that is whole. "
            "Fetch or compress it again."
        ) from error


def text_blocks(
    path: Path,
    counts: Counter[str],
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    """Yield a file's text, about a megabyte at a time, cut at lines' ends, which are all `\\n`.

    Args:
        counts: gets `undecodable_replaced`, where `encoding_errors` is `replace`.
        encoding: a codec of Python's; a byte order mark is no text.

    Raises: ValueError for bytes that are not of the encoding, with file, line and byte, and for NUL characters.
    """
    plain = "\n".encode(encoding) == b"\n"  # then a block of whole lines can be decoded by itself
    found = blocks(path, position) if plain else iter([b"".join(blocks(path, position))])
    lines = 0
    for number, block in enumerate(found):
        try:
            text = block.decode(encoding, encoding_errors)
        except UnicodeDecodeError as error:
            raise ValueError(_undecodable(path, block, lines, encoding, error.start, plain)) from None
        if encoding_errors == "replace":
            counts["undecodable_replaced"] += text.count("\ufffd") - block.count("\ufffd".encode(encoding, "ignore"))
        if number == 0:
            text = text.removeprefix("\ufeff")
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n") + 1
            raise ValueError(
                f"corpus: {path}, line {line}: a NUL character, which no text has. Accepted: text. If it is UTF-16 or "
                "UTF-32, name that: --encoding utf-16."
            )
        lines += text.count("\n")
        yield text.replace("\r\n", "\n").replace("\r", "\n")


def _undecodable(path: Path, block: bytes, lines: int, encoding: str, start: int, plain: bool) -> str:
    before = block[:start]
    line = lines + before.count(b"\n") + 1
    column = start - (before.rfind(b"\n") + 1) + 1
    place = f"byte 0x{block[start]:02x} at position {column} of the line" if plain else f"byte {start + 1} of the file"
    utf16 = lines == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff"))
    likely = "utf-16" if utf16 else "cp1252" if encoding.lower().replace("-", "") in ("utf8", "utf8sig") else "utf-8"
    where = f"{path}, line {line}: not " if plain else f"{path}: not "
    return (
        f"corpus: {where}{encoding.upper()} ({place}). Accepted: text in the encoding that is named. If it is "
        f"{likely}, say so: --encoding {likely}; --encoding_errors replace puts \ufffd for each byte that is wrong."
    )


def lines_of(text: Iterable[str]) -> Iterator[str]:
    """Yield the lines of blocks that end at lines' ends."""
    for block in text:
        yield from block.removesuffix("\n").split("\n")


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
            `files_read_by_line`, `files_read_by_paragraph` or `files_read_by_document`.
        sample_by: `line`; `paragraph`: what stands between blank lines, its lines joined; `document`: the whole file.
            `auto` is `paragraph` where blank lines part the text into blocks of three lines or more on average, and
            `line` elsewhere.
        encoding, encoding_errors, position: as for `text_blocks`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> _ = path.write_text("A line that was\\nwrapped goes\\non here.\\n\\nAnother was\\nwrapped\\ntoo.\\n")
    >>> list(read_text(path, Counter()))
    ['A line that was wrapped goes on here.', 'Another was wrapped too.']
    >>> list(read_text(path, Counter(), sample_by="line"))[:2]
    ['A line that was', 'wrapped goes']
    """
    lines = _without_gutenberg(lines_of(text_blocks(path, counts, encoding, encoding_errors, position)), counts)
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
    """Tell whether blank lines part `lines` into blocks of three or more on average.

    >>> are_wrapped(["one", "two", "three", "", "four", "five", "six"]), are_wrapped(["one", "", "two"])
    (True, False)
    """
    filled = [bool(line.strip()) for line in lines]
    starts = sum(now and not before for before, now in zip([False, *filled], filled, strict=False))
    return not all(filled) and starts > 1 and sum(filled) >= 3 * starts


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
    """Leave out what Project Gutenberg sets before and after its texts; several may stand in one file."""
    head = list(islice(lines, 1000))  # the mark stands in the first hundred
    first = next((i for i, line in enumerate(head) if _GUTENBERG.match(line)), None)
    if first is None:
        yield from head
        yield from lines
        return
    inside = False
    for line in chain(head, lines):
        mark = _GUTENBERG.match(line)
        if mark:
            inside = mark.group(1).upper() == "START"
        if inside and not mark:
            yield line
        else:
            counts["gutenberg_lines_dropped"] += 1


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > LONGEST:
        space = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        end = space if space > start else start + LONGEST
        yield text[start:end]
        start = end + (space > start)
    yield text[start:]
