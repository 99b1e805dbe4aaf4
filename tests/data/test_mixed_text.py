"""A text that is mixed in has none of the paragraphs that are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.mixed_text import load_mixed, measured_part

SENTENCE = "{} of the people who were in the old house on the hill that night had heard the same long story before"


def written(name, *paragraphs):
    Path(name).write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    return name


def test_paragraphs_that_are_measured_are_left_out_whatever_their_case_and_white_space():
    text = written("notes.txt", "To be", "or not", "to  BE", "that is", "or not")
    mixed = load_mixed(text, measured=["TO be", "not there"])
    assert (mixed.rows["text"][:], mixed.left_out) == (["or not", "that is", "or not"], 2)
    assert (mixed.rows["example_id"][:], mixed.facts["name"]) == ([1, 3, 4], "notes")
    assert load_mixed(text).left_out == 0


@pytest.mark.parametrize(
    ("deduplicate", "found"),
    [("none", [0, 1, 2, 3, 4]), ("exact", [0, 1, 2, 3]), ("near", [0, 3])],
)
def test_copies_are_left_out_as_in_the_corpus(deduplicate, found):
    paragraphs = [SENTENCE.format("Some"), SENTENCE.format("Most"), SENTENCE.format("All"), "Quite another text."]
    text = written("notes.txt", *paragraphs, "Quite  another text.")
    assert load_mixed(text, deduplicate=deduplicate).rows["example_id"][:] == found


def test_near_duplicates_of_what_is_measured_are_left_out_on_request():
    text = written("notes.txt", SENTENCE.format("Some"), "Quite another text.")
    measured = [SENTENCE.format("Most")]
    assert load_mixed(text, measured).left_out == 0
    mixed = load_mixed(text, measured, deduplicate="near")
    assert (mixed.rows["text"][:], mixed.left_out) == (["Quite another text."], 1)


def test_a_text_that_is_measured_as_a_whole_is_refused():
    text = written("notes.txt", "To be", "or not")
    with pytest.raises(ValueError, match="mix: every paragraph of 'notes' is measured, so there is nothing to mix in"):
        load_mixed(text, ["to be", "OR not"])


def test_half_of_a_text_is_measured_if_it_is_mixed_in_too():
    text = resolve(written("notes.txt", *(f"paragraph {i}" for i in range(9)), "Paragraph 0"))
    whole, half = (measured_part(text, 2000, seed=0, mixed=mixed) for mixed in (False, True))
    assert (len(whole.rows), whole.copies, whole.beyond) == (9, 1, 0)
    assert (len(half.rows), half.copies, half.beyond) == (4, 1, 5)
    assert set(half.rows["text"]) < set(whole.rows["text"])
    assert set(half.rows["text"]) != set(measured_part(text, 2000, seed=1, mixed=True).rows["text"])
    assert len(measured_part(text, 3, seed=0, mixed=True).rows) == 3
    mixed = load_mixed(text, half.rows["text"])
    assert not {line.lower() for line in mixed.rows["text"]} & {line.lower() for line in half.rows["text"]}
    assert len(mixed.rows) + mixed.left_out == 10


def test_of_a_text_with_a_validation_split_that_is_measured_and_the_rest_mixed_in():
    Path("wiki").mkdir()
    written("wiki/train.txt", *(f"paragraph {i}" for i in range(6)), "shared")
    written("wiki/validation.txt", *(f"held out {i}" for i in range(7)), "shared")
    text = resolve("wiki")
    measured = measured_part(text, 2000, seed=0, mixed=True)
    assert measured.rows["text"][:] == [*(f"held out {i}" for i in range(7)), "shared"]
    mixed = load_mixed(text, measured.rows["text"])
    assert (mixed.rows["text"][:], mixed.left_out) == ([f"paragraph {i}" for i in range(6)], 1)
