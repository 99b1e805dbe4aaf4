from __future__ import annotations

import copy

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mlm_recipes.data import word_cache
from mlm_recipes.data.text_statistics import word_pieces
from mlm_recipes.data.text_to_ids import Encoder
from mlm_recipes.data.word_cache import TokenIds

TEXT = st.text(
    st.one_of(
        st.sampled_from("  abc.,'\t\u00a0\u0301\u4e2d\u200b\x85\x1c\u03a3\u00df[MASK]"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def byte_level(corpus):
    """A tokenizer like RoBERTa's and ModernBERT's, whose mask token includes the space before it."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer, learner.normalizer = pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=["<s>", "</s>", "<pad>"])
    learner.train_from_iterator([*corpus["train"]["text"][:200], *["spaced   out    far"] * 20], trainer)
    mask, other = AddedToken("<mask>", lstrip=True, special=True), AddedToken("<other>", rstrip=True, special=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=learner, mask_token=mask, pad_token="<pad>", additional_special_tokens=[other]
    )


def plain(tokenizer, texts):
    return [ids.tolist() for ids in TokenIds(tokenizer, by_word=False)(texts)]


def by_word(tokenizer, texts):
    ids = TokenIds(tokenizer)
    assert ids.why_not is None
    return [found.tolist() for found in ids(texts)]


@given(st.lists(TEXT, max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_word_by_word_equals_whole_texts_for_wordpiece(tokenizer, texts):
    assert by_word(tokenizer, texts) == plain(tokenizer, texts)


@given(st.lists(st.one_of(TEXT, st.text("a b<mask>", max_size=20)), max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_word_by_word_equals_whole_texts_for_byte_level(byte_level, texts):
    assert by_word(byte_level, texts) == plain(byte_level, texts)


@pytest.mark.parametrize("text", ["so be it <mask> now", "an <other> thing", "spaced   out    far", " first", "last "])
def test_unusual_spaces(byte_level, text):
    assert by_word(byte_level, [text]) == plain(byte_level, [text])


def test_on_real_text_each_distinct_word_is_tokenized_once(corpus, tokenizer, byte_level, monkeypatch):
    texts = corpus["train"]["text"][:200]
    for each in (tokenizer, byte_level):
        ids = TokenIds(each)
        found = [array.tolist() for array in ids(texts)]
        assert (
            found == plain(each, texts) == [i for t in texts for i in [each(t, add_special_tokens=False)["input_ids"]]]
        )
        monkeypatch.setattr(ids, "_learn", lambda known, words, before: None)  # the second time, all words are cached
        assert [array.tolist() for array in ids(texts)] == found
        monkeypatch.undo()


def test_the_cache_is_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(word_cache, "_MOST", 200)
    monkeypatch.setattr(word_cache, "_CHARACTERS", 30)
    ids = TokenIds(tokenizer)
    for start in range(0, 60, 5):
        texts = [f"word{n} the man" for n in range(start, start + 5)]
        assert [found.tolist() for found in ids(texts)] == plain(tokenizer, texts)
        assert len(ids._first) <= 20


def test_truncation_set_by_a_caller_has_no_effect(tokenizer):
    own = copy.deepcopy(tokenizer)
    own("the man is good", truncation=True, max_length=3)
    word = "zzzzxqzzzzzzxqzz"  # with more than three pieces
    assert by_word(own, [word]) == plain(tokenizer, [word])
    assert len(plain(tokenizer, [word])[0]) > 3


def test_other_kinds_of_tokenizers_get_whole_texts(corpus):
    learner = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    other = PreTrainedTokenizerFast(tokenizer_object=learner, unk_token="[UNK]")
    ids = TokenIds(other)
    assert ids.why_not == "its words are found by Metaspace"
    assert [found.tolist() for found in ids(["a b", "a"])] == other(["a b", "a"], add_special_tokens=False)["input_ids"]


def without_unknown(kind):
    """A tokenizer of the letters of DNA, without an unknown token: an error of tokenizers, for any other character."""
    first = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *"ACGT"]
    if kind == "Unigram":
        model = models.Unigram([(token, -1.0) for token in first])
    else:
        model = models.WordLevel({token: number for number, token in enumerate(first)})
    learner = Tokenizer(model)
    learner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    learner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=learner, **named)


@pytest.mark.parametrize("kind", ["Unigram", "WordLevel"])
def test_a_vocabulary_without_an_unknown_token_is_used_for_what_it_knows_and_says_what_it_does_not(kind):
    tokenizer = without_unknown(kind)
    rows = Encoder(tokenizer, max_length=9)(["GATTACA", "C"], [0, 1])["input_ids"].to_pylist()
    assert rows == [[1, 6, 4, 7, 7, 4, 5, 4, 2], [1, 5, 2]]
    corpus = {"train": Dataset.from_dict({"text": ["GATTACA", "CAT"]})}
    assert word_pieces(corpus, tokenizer, 10)["pieces_per_word"]["ratio"] == 5
    with pytest.raises(
        ValueError, match=r"tokenizer: 'GAXTA' is not in its vocabulary, which has no token for unknown"
    ):
        TokenIds(tokenizer)(["GATTACA", "GAXTA"])
