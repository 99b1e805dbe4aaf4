from __future__ import annotations

from mlm_recipes.report.first_screen import about_the_text

FACTS = {
    "name": "notes", "paragraphs": 540, "words": 41_920, "train": 486, "validation": 54, "duplicates": 0,
    "held_out_copies": 0, "held_out_not_measured": 0, "max_length": 128, "cut_off_paragraphs": 0, "cut_off_tokens": 0,
    "split_paragraphs": 0, "rows": 540, "general": "plain", "general_copies": 0, "general_not_measured": 0,
}  # fmt: skip


def test_a_text_without_copies_needs_one_sentence():
    assert about_the_text(FACTS) == "notes: 540 paragraphs, 41,920 words; 486 to train on, 54 held out."
    stream = {"name": "notes", "streamed": True, "validation": 9, "max_length": 8, "cut_off_paragraphs": None}
    assert about_the_text(stream | {"split_paragraphs": None}) == "notes: read as a stream; 9 held out."


def test_copies_are_counted():
    said = about_the_text(FACTS | {"duplicates": 3_000, "held_out_copies": 2_999, "general_copies": 2}, repeated_rows=4)
    assert "3,000 of the paragraphs are copies of another; --deduplicate exact keeps one of each." in said
    assert "2,999 copies of held-out ones, apart from case and white space, are neither trained on nor" in said
    assert "4 held-out rows equal earlier ones to the model, and are not measured." in said
    assert "2 paragraphs of plain are not measured: copies, or more than --max_eval_samples." in said
    one = about_the_text(FACTS | {"duplicates": 1, "held_out_copies": 1}, repeated_rows=1)
    assert "1 of the paragraphs is a copy of another" in one
    assert "1 copy of held-out ones, apart from case and white space, is neither trained on nor" in one
    assert "1 held-out row equals an earlier one to the model, and is not measured." in one


def test_what_is_beyond_the_limit_is_said():
    said = about_the_text(FACTS | {"held_out_not_measured": 946})
    assert "946 further paragraphs of the held-out text are not measured, since --max_eval_samples is 54." in said


def test_what_is_cut_off_or_split_is_said():
    cut = about_the_text(FACTS | {"cut_off_paragraphs": 2, "cut_off_tokens": 70})
    assert "Longer than 128 tokens: 2 paragraphs, of which 70 tokens are cut off; --long_text split keeps them." in cut
    assert "split at the ends of sentences; 540 rows" in about_the_text(FACTS | {"split_paragraphs": 2})


def test_what_the_vocabulary_lacks_is_said():
    unknown = {"tokens": 100, "unknown_tokens": 98, "characters": 0.95, "why": "script", "script": "Thai"}
    said = about_the_text(FACTS | {"unknown": unknown | {"examples": []}})
    assert "98.0% of the tokens, with 95.0% of the characters are unknown to the vocabulary. They are never" in said
