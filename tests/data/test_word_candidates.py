from __future__ import annotations

import pytest

from mlm_recipes import load_tokenizer, train_tokenizer
from mlm_recipes.data.word_candidates import candidates

TEXTS = [
    "The Hegemonikon and hegemonikons of www.hegemonikon.org",
    "hegemonikon 1234567",
    "HEGEMONIKON. Zenoisms Zenoisms",
]


def test_words_are_counted_as_the_tokenizer_sees_them():
    (found, *_) = candidates(TEXTS, load_tokenizer("mini"), at_least=3)
    assert (found.word, found.frequency, found.paragraphs) == ("hegemonikon", 4, 3)
    assert found.saved == 4 * (len(found.pieces) - 1)
    assert {each.word for each in candidates(TEXTS, load_tokenizer("mini"), 1)} >= {"zenoisms", "hegemonikons", "org"}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_other_tokenizers_keep_the_case_and_count_the_piece_with_its_space(kind):
    tokenizer = train_tokenizer(
        ["the soul of the universe is hegemonikon HEGEMONIKON H. Zzz and of it"] * 9, 300, tokenizer_type=kind
    )
    found = {each.word: each for each in candidates(TEXTS * 3, tokenizer)}
    assert "the" not in found
    for each in found.values():
        assert each.pieces == tuple(tokenizer.tokenize(f" {each.word}"))
        assert each.word.isalpha()


def test_those_that_cost_most_come_first_and_then_the_alphabet():
    found = candidates(["zzxq zzxq yyxq yyxq axqqxq axqqxq"] * 3, load_tokenizer("mini"))
    assert [each.saved for each in found] == sorted((each.saved for each in found), reverse=True)
    assert found == sorted(found, key=lambda each: (-each.saved, each.word))
