from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes.data.word_list import read_words


def test_a_file_has_a_word_per_line_and_comments():
    Path("words.txt").write_text("\ufeff# all of them\nlogos  # 12, lo ##gos\n\n c#\n#hidden\nlogos\n", "utf-8")
    assert read_words("words.txt") == ["logos", "c#"]
    assert read_words(["oikeiosis", "words.txt"]) == ["oikeiosis", "logos", "c#"]


@pytest.mark.parametrize(
    ("content", "says"),
    [("# none\n", "holds no words"), ("two words\n", "'two words'.*without spaces"), (b"\xff", "is not UTF-8")],
)
def test_what_holds_no_words_is_refused(content, says):
    Path("words.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=says):
        read_words("words.txt")


def test_a_missing_file_says_how_to_get_one():
    with pytest.raises(FileNotFoundError, match="mlm-recipes vocab CORPUS"):
        read_words("nowhere.txt")
