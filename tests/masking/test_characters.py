from __future__ import annotations

import sys
import unicodedata

import pytest
from tokenizers import normalizers, pre_tokenizers

from mlm_recipes.masking.characters import kind_of


def test_punctuation_and_chinese_are_berts():
    """BERT's pre-tokenizer separates its punctuation, and its normalizer the Chinese characters."""
    separate, spaced = pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )  # fmt: skip
    for point in [*range(0x21, 0x3000), *range(0x4E00, 0x4F00), *range(0xFE00, 0xFFF0), 0x20000]:
        character = chr(point)
        kind = kind_of(character)
        old = unicodedata.ucd_3_2_0.category(character)  # of newer ones, tokenizers and Python know different ones
        if kind in ("mark", "space") or old in ("Cn", "Cc", "Cf") or old[0] != unicodedata.category(character)[0]:
            continue
        own = len(separate.pre_tokenize_str(spaced.normalize_str(f"a{character}a"))) == 3
        without_spaces = 0x0E00 <= point <= 0x1AAF or 0x2E80 <= point < 0x3000 or 0xFF66 <= point <= 0xFF9F
        assert kind == ("own" if own else "inner") or (without_spaces and kind == "own"), hex(point)


@pytest.mark.parametrize(
    "text", ["\u3042\u30ab\u3006\u3105", "\u0e01\u0e44", "\u0e81", "\u1000", "\u1780", "漢\U00020000"]
)
def test_scripts_without_spaces_have_words_of_one_character(text):
    assert {kind_of(character) for character in text} == {"own"}


@pytest.mark.parametrize("text", ["abcXYZ", "ñøß", "Ελлщ", "한국", "اب", "हि"[0], "0123", "አማ"])
def test_other_scripts_have_longer_ones(text):
    assert {kind_of(character) for character in text} == {"inner"}


def test_every_code_point_has_a_kind():
    kinds = {kind_of.__wrapped__(chr(point)) for point in range(0, sys.maxunicode + 1, 7)}
    assert kinds == {"space", "own", "mark", "inner"}
