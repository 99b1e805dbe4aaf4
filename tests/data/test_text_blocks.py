from __future__ import annotations

import bz2
import gzip
import lzma
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlm_recipes.data import text_blocks as text_blocks_module
from mlm_recipes.data.text_blocks import lines_of, text_blocks


def read(content: bytes | str, **options) -> tuple[list[str], Counter]:
    """Return the lines of a file with this content, and what was counted."""
    path, counts = Path("text.txt"), Counter()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(lines_of(text_blocks(path, counts, **options))), counts


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, lambda b: pa.compress(b, "zstd", asbytes=True)],
    ids=["gz", "bz2", "xz", "zst"],
)
def test_compressed_files_are_recognised_by_their_first_bytes(compress):
    content = b"one\ntwo\n" * 1000
    assert read(compress(content))[0] == ["one", "two"] * 1000
    for part in (18, len(compress(content)) - 9):
        with pytest.raises(ValueError, match=r"text\.txt cannot be read to its end"):
            read(compress(content)[:part])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"])
def test_encodings_and_line_ends(encoding):
    text = "caf\u00e9\r\nna\u00efve\rold Mac\nend"
    assert read(text.encode(encoding), encoding=encoding)[0] == ["caf\u00e9", "na\u00efve", "old Mac", "end"]


def test_an_invalid_byte_is_located_by_line_and_position(monkeypatch):
    monkeypatch.setattr(text_blocks_module, "_BLOCK", 64)
    lines = [b"a line of text"] * 500 + [b"gut, caf\xe9"]
    with pytest.raises(ValueError, match=r"text\.txt, line 501: not UTF-8 \(byte 0xe9 at position 9 of the line\)"):
        read(b"\n".join(lines))
    texts, counts = read(b"\n".join(lines), encoding_errors="replace")
    assert (texts[-1], counts["undecodable_replaced"]) == ("gut, caf\ufffd", 1)
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        content = "a real \ufffd\nis no error\n".encode(encoding)
        texts, counts = read(content, encoding=encoding, encoding_errors="replace")
        assert (texts[0], counts["undecodable_replaced"]) == ("a real \ufffd", 0)
    texts, counts = read(b"fine\nno \x81\n", encoding="cp1252", encoding_errors="replace")
    assert (texts[1], counts["undecodable_replaced"]) == ("no \ufffd", 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "iso2022_kr", "shift_jis", "gb18030", "utf-8"])
def test_blocks_may_end_anywhere(monkeypatch, encoding):
    monkeypatch.setattr(text_blocks_module, "_BLOCK", 7)
    lines = ["one", "\u6771\u4eac" if encoding != "iso2022_kr" else "\ud55c\uad6d", "\u010a"[:0] + "two"] * 20
    content = "\r\n".join(lines).encode(encoding)
    assert read(content, encoding=encoding)[0] == lines


def test_utf_16_is_guessed_and_nul_characters_are_refused():
    with pytest.raises(ValueError, match=r"line 1: not UTF-8 \(byte 0xff at position 1.*--encoding utf-16;"):
        read("text".encode("utf-16"))
    with pytest.raises(ValueError, match=r"text\.txt, line 2: a NUL character"):
        read(b"fine\nno\0t\n")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), max_size=30)),
    st.integers(1, 40),
)
def test_every_line_is_returned_once_wherever_blocks_end(monkeypatch, lines, block):
    monkeypatch.setattr(text_blocks_module, "_BLOCK", block)
    assert read("\n".join([*lines, "end"]))[0] == [*lines, "end"]


def test_the_position_in_the_file_is_reported(monkeypatch):
    monkeypatch.setattr(text_blocks_module, "_BLOCK", 4)
    places: list[int] = []
    assert read("one\ntwo\nthree", position=places.append)[0] == ["one", "two", "three"]
    assert places == [4, 8, 12, 13]
