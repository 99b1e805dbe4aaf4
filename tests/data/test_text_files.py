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

from mlm_recipes.data import text_files
from mlm_recipes.data.text_files import are_wrapped, read_text

BOOK = """\
The Project Gutenberg eBook of A Book

Title: A Book

*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***

Chapter one was
wrapped at a few
words.

Chapter two was
as well, of all
the.

*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***

Updated editions will replace the previous one.
"""


def read(content: bytes | str, **options) -> tuple[list[str], Counter]:
    path, counts = Path("text.txt"), Counter()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_text(path, counts, **options)), counts


def test_lines_paragraphs_and_documents():
    text = "one\ntwo\n\n three \nfour\n\n\n"
    assert read(text, sample_by="line")[0] == ["one", "two", " three ", "four"]
    assert read(text, sample_by="line")[1]["blank_lines_dropped"] == 3
    assert read(text, sample_by="paragraph")[0] == ["one two", "three four"]
    assert read(text, sample_by="document")[0] == ["one\ntwo\n\n three \nfour"]


@pytest.mark.parametrize(
    ("lines", "wrapped"),
    [
        (["a", "b", "c", "", "d", "e", "f"], True),
        (["a", "b", "", "d", "e", "f"], False),  # two and a half lines on average
        (["a", "", "b", "", "c"], False),
        (["a", "b", "c", "d"], False),  # no blank line: a paragraph a line
        (["a", "b", "c", ""], False),  # one block
        (["a" * 121, "b" * 121, "c", "", "d" * 121, "e" * 121, "f"], False),  # nobody wraps there
        (["A title", "A sentence is here.", "So.", "Yes?", "", "One.", "A second sentence.", "No."], False),
        (["", "", ""], False),
    ],
)
def test_wrapped_lines_are_found_by_the_blank_lines_between_them(lines, wrapped):
    assert are_wrapped(lines) is wrapped
    _, counts = read("\n".join(lines))
    assert counts[f"files_read_by_{'paragraph' if wrapped else 'line'}"] == 1


def test_project_gutenbergs_header_and_footer_are_dropped_and_counted():
    texts, counts = read(BOOK)
    assert texts == ["Chapter one was wrapped at a few words.", "Chapter two was as well, of all the."]
    assert counts["gutenberg_lines_dropped"] == 5 + 3
    twice, counts = read(BOOK + BOOK)
    assert twice == texts * 2
    assert read("a\nb\n", sample_by="line")[1]["gutenberg_lines_dropped"] == 0


def test_what_is_not_project_gutenbergs_is_kept():
    texts, counts = read("mine\n" * 3 + BOOK, sample_by="line")
    assert (texts[:3], len(texts), counts["gutenberg_lines_dropped"]) == (["mine"] * 3, 9, 8)
    texts, _ = read("the book\n*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\nlicence\n", sample_by="line")
    assert texts == ["the book"]


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, lambda b: pa.compress(b, "zstd", asbytes=True)],
    ids=["gz", "bz2", "xz", "zst"],
)
def test_compressed_files_are_known_by_their_first_bytes(compress):
    content = b"one\ntwo\n" * 1000
    assert read(compress(content))[0] == ["one", "two"] * 1000
    for part in (18, len(compress(content)) - 9):
        with pytest.raises(ValueError, match=r"text\.txt cannot be read to its end"):
            read(compress(content)[:part])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"])
def test_encodings_and_line_ends(encoding):
    text = "caf\u00e9\r\nna\u00efve\rold Mac\nend"
    assert read(text.encode(encoding), encoding=encoding)[0] == ["caf\u00e9", "na\u00efve", "old Mac", "end"]


def test_a_byte_that_is_wrong_is_named_by_line_and_place_even_far_into_a_file(monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 64)
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
    monkeypatch.setattr(text_files, "_BLOCK", 7)
    lines = ["one", "\u6771\u4eac" if encoding != "iso2022_kr" else "\ud55c\uad6d", "\u010a"[:0] + "two"] * 20
    content = "\r\n".join(lines).encode(encoding)
    assert read(content, encoding=encoding, sample_by="line")[0] == lines


def test_utf_16_is_guessed_and_nul_characters_are_no_text():
    with pytest.raises(ValueError, match=r"line 1: not UTF-8 \(byte 0xff at position 1.*--encoding utf-16;"):
        read("text".encode("utf-16"))
    with pytest.raises(ValueError, match=r"text\.txt, line 2: a NUL character"):
        read(b"fine\nno\0t\n")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), max_size=30)),
    st.integers(1, 40),
)
def test_every_line_comes_out_once_wherever_blocks_end(monkeypatch, lines, block):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    texts, counts = read("\n".join([*lines, "end"]), sample_by="line")
    assert texts == [line for line in [*lines, "end"] if line.strip()]
    assert counts["blank_lines_dropped"] == len(lines) + 1 - len(texts)


def test_a_paragraph_of_megabytes_is_cut_at_white_space_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST", 50)
    text = "word " * 100 + "x" * 120
    texts, counts = read(text)
    assert all(len(part) <= 50 for part in texts)
    assert " ".join(texts[:-3]).split() == ["word"] * 100
    assert "".join(texts[-3:]).endswith("x" * 120)
    assert counts["very_long_cut"] == 1


def test_the_place_in_the_file_is_told(monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 4)
    Path("text.txt").write_text("one\ntwo\nthree")
    places: list[int] = []
    assert len(list(read_text(Path("text.txt"), Counter(), position=places.append))) == 3
    assert places == [4, 8, 12, 13]
