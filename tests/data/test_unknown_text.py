from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mlm_recipes import train_tokenizer
from mlm_recipes.data.unknown_text import lost_characters

ENGLISH = ["the doctor sees the captain of a ship, and the judge reads a contract: yes"] * 3
HAN = "\u7684\u4e00\u662f\u5728\u4e0d\u4e86\u6709\u548c\u4eba\u8fd9" * 8


@pytest.fixture(scope="module")
def english():
    return train_tokenizer(ENGLISH, vocab_size=400)


class _Slow:
    """A tokenizer that does not tell where its tokens are."""

    is_fast = False

    def __init__(self, tokenizer):
        self.tokenizer, self.unk_token_id = tokenizer, tokenizer.unk_token_id

    def __call__(self, text, **how):
        return self.tokenizer(text, **how)


@pytest.mark.parametrize(
    ("texts", "why", "script", "share"),
    [
        (ENGLISH, None, None, 0.0),
        ([f"{HAN}, the doctor"], "script", "Chinese characters", 80 / 90),
        (["the \u0434\u043e\u043a\u0442\u043e\u0440 sees"], "script", "Cyrillic", 6 / 13),
        (["sedothercan" * 15, "the ship"], "long words", None, 165 / 172),
        (["the \u0142\u00f3d\u017a sees", "a stra\u00dfe"], "letters", None, 10 / 18),
        (["the ship 2, 31"], "other", None, 3 / 11),
        (["the ship \U0001f600", "yes \U0001f602\U0001f602 sees"], "symbols", None, 3 / 17),
    ],
)
def test_the_share_and_the_reason_are_found(english, texts, why, script, share):
    for tokenizer in (english, _Slow(english)):
        found = lost_characters([texts], tokenizer)
        assert (found["why"], found["script"]) == (why, script)
        assert found["characters"] == pytest.approx(share, abs=0.02)
        assert len(found["examples"]) == min(3, len(found["examples"]))
        assert bool(found["examples"]) == (share > 0)


def test_one_unknown_token_may_be_many_characters(english):
    """By tokens this is a tenth of the text, by characters nine tenths."""
    text = "the ship sees a ship and the doctor reads " + "acgt" * 90
    ids = english(text, add_special_tokens=False)["input_ids"]
    assert ids.count(english.unk_token_id) == 1
    assert len(ids) == 10
    assert lost_characters([[text]], english)["characters"] > 0.9


def test_a_tokenizer_without_an_unknown_token_leaves_characters_out():
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator(ENGLISH, trainers.BpeTrainer(special_tokens=["[MASK]"], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner, mask_token="[MASK]")
    assert tokenizer.unk_token_id is None
    found = lost_characters([[f"the ship {HAN}"]], tokenizer)
    assert found["characters"] == pytest.approx(80 / 87)
    assert found["why"] == "script"


def test_a_byte_level_vocabulary_lacks_nothing():
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(ENGLISH, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner)
    assert lost_characters([[HAN, "\U0001f600 \u0142", "acgt" * 90]], tokenizer)["characters"] == 0


def test_a_long_text_is_sampled_in_all_its_parts(english):
    parts = [["the ship"] * 5_000, [HAN] * 50]
    assert lost_characters(parts, english)["characters"] == pytest.approx(50 * 80 / (50 * 80 + 100 * 7), rel=0.1)
