"""What a reader is told of the text, from the facts that reading leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes import inspect_corpus, load_corpus
from mlm_recipes.data.corpus_name import CORPORA
from mlm_recipes.report.text_read import how_read

GUTENBERG = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{}\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n"


def said(name: str, **options) -> list[str]:
    return list(how_read(load_corpus(name, **options).facts))


def test_of_plain_text_nothing_needs_to_be_said():
    assert said("meditations") == []
    number = sum(map(len, (CORPORA / "meditations.txt").read_text("ascii").splitlines()))
    assert load_corpus("meditations").facts["characters"] == {"read": number, "kept": number, "left_out": {}}


def test_characters_are_counted_and_said_when_more_than_a_tenth_is_left_out():
    Path("a.txt").write_text("".join(f"line {n % 4}\n" for n in range(40)))
    assert said("a.txt") == []
    assert said("a.txt", deduplicate="exact") == [
        "24 of the text's 240 characters are kept; left out: 216 in duplicates."
    ]
    Path("b.txt").write_text("line 0\nline 1\n")
    assert said("a.txt", validation_corpus="b.txt") == [
        "120 of the text's 240 characters are kept; left out: 120 in copies of held-out paragraphs."
    ]
    licence = "All that the licence says goes here.\n" * 9
    Path("c.txt").write_text(GUTENBERG.format("The one line.\nThe other line.") + licence)
    (sentence,) = said("c.txt")
    assert sentence.endswith("in header and footer of Project Gutenberg.")
    assert sentence.startswith("28 of the text's ")


def test_characters_of_other_columns_are_counted_apart():
    Path("a.csv").write_text("id,said,where\n" + "".join(f"1{n},The pilot {n} sleeps,here\n" for n in range(10, 30)))
    facts = load_corpus("a.csv").facts
    texts = sum(len(f"The pilot {n} sleeps") for n in range(10, 30))
    assert facts["characters"] == {"read": texts, "kept": texts, "left_out": {}}
    assert facts["text_column"] == {
        "name": "said", "why": "most characters", "characters_of_others": {"id": 60, "where": 80},
    }  # fmt: skip
    assert said("a.csv") == [
        "The text is the column 'said' (it has the most text); 27% of the characters are in id, where, which are not "
        "read."
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1,The pilot sleeps.\n2,The harbour is far.\n", "Without a header, so that columns are numbered: 1 file."),
        (
            "Far away, the pilot sleeps.\nThe harbour, too, is far.\n",
            "Plain text in spite of their names, not tables: 1",
        ),
    ],
)
def test_an_inspection_says_how_a_table_was_read(content, says):
    Path("a.csv").write_text(content)
    page = " ".join(str(inspect_corpus(corpus="a.csv", timing=False)).split())
    assert says in page
    assert "text column" not in page
