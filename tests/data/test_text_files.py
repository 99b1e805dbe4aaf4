from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

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
        (["a", "b", "c", "d"], False),  # no blank line: each line is a paragraph
        (["a", "b", "c", ""], False),  # one block
        (["a" * 121, "b" * 121, "c", "", "d" * 121, "e" * 121, "f"], False),  # too long for wrapped lines
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


def test_text_that_is_not_project_gutenbergs_is_kept():
    texts, counts = read("mine\n" * 3 + BOOK, sample_by="line")
    assert (texts[:3], len(texts), counts["gutenberg_lines_dropped"]) == (["mine"] * 3, 9, 8)
    texts, _ = read("the book\n*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\nlicence\n", sample_by="line")
    assert texts == ["the book"]


def test_a_very_long_paragraph_is_cut_at_white_space_without_loss(monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST", 50)
    text = "word " * 100 + "x" * 120
    texts, counts = read(text)
    assert all(len(part) <= 50 for part in texts)
    assert " ".join(texts[:-3]).split() == ["word"] * 100
    assert "".join(texts[-3:]).endswith("x" * 120)
    assert counts["very_long_cut"] == 1
