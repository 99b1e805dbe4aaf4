"""Reads a file's text a block at a time: decompresses and decodes it, and locates errors."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

_BLOCK = 2**20

# By the first bytes of a file, whatever its name.
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": lambda path: pa.CompressedInputStream(str(path), "zstd"),
    **{b"BZh%d1AY&SY" % size: bz2.open for size in range(1, 10)},
    b"\xfd7zXZ": lzma.open,
}
_NO_TEXT = {
    b"%PDF": ("a PDF", "Extract its text first: pdftotext FILE text.txt"),
    b"PK\x03\x04": (
        "an archive or an office document",
        "Unpack it, or save it as plain text, and name the folder or the file",
    ),
}


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, and decompress it if its first bytes are those of gzip, zstd, bzip2 or xz.

    Raises: ValueError for a PDF, an archive, or anything that is not a readable file.
    """
    try:
        if not path.is_file():
            raise OSError("it is not a regular file" if path.exists() else "it is a broken link")
        with path.open("rb") as file:
            start = file.read(10)
    except OSError as error:
        raise ValueError(
            f"corpus: {path} cannot be read ({error.strerror or error}). Accepted: a file that you may read; for "
            "text from a pipe, --corpus -. Check its permissions and its links."
        ) from error
    for magic, (what, mend) in _NO_TEXT.items():
        if start.startswith(magic):
            raise ValueError(f"corpus: {path} is {what}. Accepted: plain text, JSON lines, CSV, Parquet. {mend}.")
    for magic, decompress in _COMPRESSED.items():
        if start.startswith(magic):
            return decompress(path)
    return path.open("rb")


def blocks(path: Path, position: Callable[[int], Any] = lambda _: None) -> Iterator[bytes]:
    """Yield a file's bytes, decompressed, about a megabyte at a time; each block except the last ends with a line.

    `position` is called with the number of bytes read so far, after decompression.

    Raises: ValueError for a compressed file that is truncated or damaged.
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
            f"corpus: {path} cannot be read to its end ({error}). Accepted: a complete file. "
            "Download or compress it again."
        ) from error


def text_blocks(
    path: Path,
    counts: Counter[str],
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    """Yield a file's text, about a megabyte at a time; lines end with `\n`, whatever their ends in the file.

    Args:
        counts: gets `undecodable_replaced`, if `encoding_errors` is `replace`.
        encoding: one of Python's codecs. A byte order mark is removed.
        encoding_errors: `strict` or `replace`.
        position: as for `blocks`.

    Raises: ValueError for a byte that cannot be decoded, with file, line and byte, and for a NUL character.
    """
    replaced = 0

    def replace(error: UnicodeError) -> tuple[str, int]:
        nonlocal replaced
        assert isinstance(error, UnicodeDecodeError)
        replaced += 1
        return "\ufffd", error.end

    handler = encoding_errors
    if encoding_errors == "replace":  # this handler also counts
        handler = "mlm_recipes.replace"
        codecs.register_error(handler, replace)
    # Incremental: a block may end inside a character of UTF-16, and some encodings switch between alphabets.
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(handler), translate=True)
    lines = done = 0
    for number, block in enumerate(itertools.chain(blocks(path, position), [b""])):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise ValueError(_undecodable(path, error, encoding, done + len(block))) from None
        done += len(block)
        if number == 0:
            text = text.removeprefix("\ufeff")
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n") + 1
            raise ValueError(
                f"corpus: {path}, line {line}: a NUL character, which no text has. Accepted: text. If the file is "
                "UTF-16 or UTF-32, name that: --encoding utf-16."
            )
        lines += text.count("\n")
        yield text
    counts["undecodable_replaced"] += replaced


def _undecodable(path: Path, error: UnicodeDecodeError, encoding: str, read: int) -> str:
    """Return a message with the place of an invalid byte; the decoder failed after `read` bytes of the file."""
    offset, wrong = read - len(error.object) + error.start, error.object[error.start]
    utf16 = offset == 0 and error.object.startswith((b"\xff\xfe", b"\xfe\xff"))
    likely = "utf-16" if utf16 else "cp1252" if encoding.lower().replace("-", "") in ("utf8", "utf8sig") else "utf-8"
    where, place = str(path), f"byte {offset + 1} of the file"
    if "\n".encode(encoding) == b"\n":
        line, column = _line_and_column(path, offset)
        where, place = f"{path}, line {line}", f"byte 0x{wrong:02x} at position {column} of the line"
    return (
        f"corpus: {where}: not {encoding.upper()} ({place}). Accepted: text in that encoding. If it is {likely}, pass "
        f"--encoding {likely}; --encoding_errors replace puts \ufffd instead of each invalid byte."
    )


def _line_and_column(path: Path, offset: int) -> tuple[int, int]:
    line, begins, done = 1, 0, 0
    for block in blocks(path):
        before = block[: max(0, offset - done)]
        if b"\n" in before:
            line, begins = line + before.count(b"\n"), done + before.rfind(b"\n") + 1
        done += len(block)
        if done > offset:
            break
    return line, offset - begins + 1


def lines_of(text: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text that is given in blocks."""
    rest = ""
    for block in text:
        *lines, rest = (rest + block if rest else block).split("\n")
        yield from lines
    if rest:
        yield rest
