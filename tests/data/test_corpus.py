from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlm_recipes import load_corpus
from mlm_recipes.data.corpus_name import CORPORA


def paragraphs(corpus):
    rows = [*corpus["train"], *corpus["validation"]]
    return [row["text"] for row in sorted(rows, key=lambda row: row["example_id"])]


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


# The split


def test_the_split_contains_each_paragraph_once(corpus):
    lines = (CORPORA / "meditations.txt").read_text("ascii").splitlines()
    assert paragraphs(corpus) == lines
    assert corpus["validation"].num_rows == 54
    assert corpus.facts["paragraphs"] == 540
    assert corpus.facts["words"] == 41_920
    ids = [*corpus["train"]["example_id"], *corpus["validation"]["example_id"]]
    assert sorted(ids) == list(range(540))


def test_the_split_depends_only_on_the_seed(tmp_path, corpus):
    lines = (CORPORA / "meditations.txt").read_text("ascii").splitlines()
    held_out = set(corpus["validation"]["text"])
    assert set(load_corpus(write(tmp_path / "reversed.txt", *reversed(lines)))["validation"]["text"]) == held_out
    assert set(load_corpus("meditations", seed=1)["validation"]["text"]) != held_out


def test_max_eval_samples_limits_the_held_out_text(corpus):
    fewer = load_corpus("meditations", max_eval_samples=10)
    assert len(fewer["validation"]) == 10
    assert set(fewer["validation"]["text"]) < set(corpus["validation"]["text"])
    with pytest.raises(ValueError, match="max_eval_samples: received 0"):
        load_corpus("meditations", max_eval_samples=0)


def test_a_separate_text_can_be_held_out(tmp_path):
    text = write(tmp_path / "text.txt", "one two", "three four", "five six", "THREE  four")
    other = write(tmp_path / "other.txt", "three four", "", "seven eight")
    corpus = load_corpus(text, validation_corpus=other)
    assert list(corpus["train"]["text"]) == ["one two", "five six"]
    assert list(corpus["validation"]["text"]) == ["three four", "seven eight"]
    assert corpus.facts["dropped_as_duplicate_of_validation"] == 2
    its = corpus.facts["validation_corpus"]
    assert (its["name"], its["source"], its["blank_lines_dropped"]) == ("other", other, 1)
    with pytest.raises(ValueError, match="every paragraph is also in the text that is held out"):
        load_corpus(other, validation_corpus=other)


def test_a_longer_corpus_keeps_most_of_its_split(tmp_path, corpus):
    lines = (CORPORA / "meditations.txt").read_text("ascii").splitlines()
    longer = load_corpus(write(tmp_path / "longer.txt", *lines, "One more paragraph."))
    moved = set(longer["validation"]["text"]) ^ set(corpus["validation"]["text"])
    assert len(moved) <= 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(-5, 5))
def test_no_duplicate_is_on_both_sides(tmp_path, numbers, fraction, seed):
    distinct = len(set(numbers))
    name = hashlib.sha256(repr((numbers, fraction, seed)).encode()).hexdigest()[:16]
    lines = [f"Paragraph  {n}" if i % 2 else f" paragraph {n} " for i, n in enumerate(numbers)]
    path = write(tmp_path / f"{name}.txt", *lines)
    if distinct < 2:
        with pytest.raises(ValueError, match="too few to hold one out"):
            load_corpus(path, validation_fraction=fraction, seed=seed)
        return
    corpus = load_corpus(path, validation_fraction=fraction, seed=seed)
    train, validation = ({" ".join(text.lower().split()) for text in corpus[split]["text"]} for split in corpus)
    assert not train & validation
    assert train
    assert len(validation) == min(max(1, round(fraction * distinct)), distinct - 1)
    assert corpus.facts["duplicates"] == len(numbers) - distinct


def test_near_duplicates_are_counted_and_dropped_when_asked(tmp_path, corpus):
    lines = list(corpus["train"]["text"])[:60]
    near = [f"{line} Indeed." for line in lines[:12] if len(line.split()) > 30]
    path = write(tmp_path / "near.txt", *lines, *near, lines[0].upper())
    kept = load_corpus(path)
    assert (kept.facts["duplicates"], kept.facts["near_duplicates"]) == (1, len(near))
    assert kept.facts["near_duplicates_of_validation"] > 0
    cleaned = load_corpus(path, deduplicate="near")
    assert sorted(paragraphs(cleaned)) == sorted(lines)
    assert cleaned.facts["duplicates_dropped"] == len(near) + 1
    assert (cleaned.facts["near_duplicates"], cleaned.facts["near_duplicates_of_validation"]) == (0, 0)
    exact = load_corpus(path, deduplicate="exact")
    assert (exact.facts["duplicates_dropped"], exact.facts["near_duplicates"]) == (1, len(near))
    held_out = write(tmp_path / "held_out.txt", near[0])
    split = load_corpus(write(tmp_path / "lines.txt", *lines), validation_corpus=held_out, deduplicate="near")
    assert lines[0] not in split["train"]["text"]
    assert len(split["train"]) == len(lines) - 1
    assert "near_duplicates" not in load_corpus(path, count_near_duplicates=False).facts


# Reading


def test_blank_lines_are_dropped_and_counted(tmp_path, caplog):
    path = write(tmp_path / "notes.txt", "one", "", "two", "   ", "\t", "three", "")
    with caplog.at_level("INFO", logger="mlm_recipes"):
        corpus = load_corpus(path)
    assert paragraphs(corpus) == ["one", "two", "three"]
    assert corpus.facts["blank_lines_dropped"] == 3
    assert "blank lines dropped: 3" in caplog.text


def test_wrapped_lines_are_joined(tmp_path):
    block, other = (
        ["a line that was wrapped", "and goes on there to", "end."],
        ["another that was so", "and went on like it", "too."],
    )
    path = write(tmp_path / "wrapped.txt", *block, "", *other)
    corpus = load_corpus(path)
    assert paragraphs(corpus) == [" ".join(block), " ".join(other)]
    assert corpus.facts["files_read_by_paragraph"] == 1
    assert paragraphs(load_corpus(path, sample_by="line")) == [*block, *other]


def test_a_byte_order_mark_and_windows_line_ends_are_not_text(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert paragraphs(load_corpus("notes.txt")) == ["one", "two"]


def test_a_folder_contains_all_its_text_files(tmp_path):
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    write(tmp_path / "texts" / "b.txt", "three", "four")
    write(tmp_path / "texts" / "a.txt", "one", "two")
    write(tmp_path / "texts" / "deep" / "c.txt", "five")
    write(tmp_path / "texts" / "empty.txt", "")
    write(tmp_path / "texts" / "notes.md", "not this")
    corpus = load_corpus("texts")
    assert Counter(paragraphs(corpus)) == Counter(["one", "two", "three", "four", "five"])
    assert corpus.facts["name"] == "texts"


@pytest.mark.parametrize("name", ["notes[1].txt", "not*es.txt", "notes?.txt", "notes {a}.txt"])
def test_a_file_name_is_not_a_pattern(tmp_path, name):
    write(tmp_path / "notes1.txt", "three", "four")
    write(tmp_path / name, "one", "two")
    assert paragraphs(load_corpus(name)) == ["one", "two"]


def test_a_file_that_changed_is_read_again(tmp_path):
    load_corpus(write(tmp_path / "notes.txt", "one", "two"))
    assert paragraphs(load_corpus(write(tmp_path / "notes.txt", "three", "four"))) == ["three", "four"]


# Bad input


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "contains no text"),
        (b"\n  \n\t\n", r"contains no text \(3 blank lines\)"),
        (b"only one paragraph\n", "1 different paragraph, too few"),
        (b"same\nSAME\n same \n", "1 different paragraph, too few"),
        (b"fine\nfine too\ncaf\xe9\n", r"notes\.txt, line 3: not UTF-8 \(byte 0xe9 at position 4"),
    ],
    ids=["empty", "blank", "one paragraph", "one paragraph thrice", "latin-1"],
)
def test_an_unusable_file_is_refused(tmp_path, content, says):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        load_corpus("notes.txt")


def test_a_folder_without_text_and_a_pdf_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the folder 'empty' contains no text.*\.txt"):
        load_corpus("empty")
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(ValueError, match=r"is a PDF.*pdftotext"):
        load_corpus("book.pdf")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_a_fraction_must_leave_something_on_both_sides(fraction):
    with pytest.raises(ValueError, match=f"validation_fraction: received {fraction}"):
        load_corpus("meditations", validation_fraction=fraction)


def test_the_error_without_a_network_names_the_next_step():
    with pytest.raises(ValueError, match=r"'someone/texts'.*hub cannot be reached.*bundled `meditations`"):
        load_corpus("someone/texts")
