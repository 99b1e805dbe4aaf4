"""A new word is one token where it stands alone; every other text has the tokens that it had."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mlm_recipes import load_tokenizer, train_tokenizer
from mlm_recipes.checkpoints.tokenizer_files import use_known_class
from mlm_recipes.data.added_words import add_words, ids_alone
from mlm_recipes.data.word_cache import TokenIds

TEXTS = ["the soul of the universe is a philosopher of thoughts, and he ruleth, by (me). The king hummeth"] * 9
NEW = ["hegemonikon", "universes", "unruly"]
KINDS = ["wordpiece", "bpe", "unigram"]
OTHER = st.text(st.sampled_from("heguniv rsly,.' \n"), max_size=30)


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: train_tokenizer(TEXTS, 330, tokenizer_type=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def extended(tokenizers):
    return {kind: add_words(tokenizer, NEW) for kind, tokenizer in tokenizers.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_word_is_one_token_also_after_saving(kind, tokenizers, extended, tmp_path):
    before, added = tokenizers[kind], extended[kind]
    first = len(before)
    assert [*added.pieces] == [first, first + 1, first + 2]
    assert [*added.pieces.values()] == ids_alone(before, NEW)
    added.tokenizer.save_pretrained(tmp_path)
    use_known_class(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    text = "the hegemonikon of universes, (unruly) unruly. The soul unruly"
    for tokenizer in (added.tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [ids.count(first + index) for index in range(3)][:2] == [1, 1]
        assert ids.count(first + 2) >= 2
        if kind != "wordpiece":  # which lower-cases
            assert tokenizer.decode(ids) == before.decode(before(text, add_special_tokens=False)["input_ids"])
        special = {role: getattr(before, f"{role}_token_id") for role in ("mask", "pad", "cls", "sep", "unk")}
        assert special == {role: getattr(tokenizer, f"{role}_token_id") for role in special}
        assert tokenizer(f"the {before.mask_token}")["input_ids"] == before(f"the {before.mask_token}")["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@given(text=OTHER)
@settings(max_examples=150)
def test_nothing_else_changes(kind, text, tokenizers, extended):
    old, new = tokenizers[kind], extended[kind]
    ids = new.tokenizer(text, add_special_tokens=False)["input_ids"]
    again = [piece for index in ids for piece in new.pieces.get(index, [index])]
    assert again == old(text, add_special_tokens=False)["input_ids"]
    assert [found.tolist() for found in TokenIds(new.tokenizer)([text])] == [ids]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@given(words=st.lists(st.sampled_from([*NEW, "hegemonikons", "soul", "un-universes", "x_unruly", "unruly's", "("])))
@settings(max_examples=60)
def test_no_token_is_a_part_of_another_word(kind, words, tokenizers, extended):
    old, new = tokenizers[kind], extended[kind]
    text = f"a {' '.join(words)}"
    ids = new.tokenizer(text, add_special_tokens=False)["input_ids"]
    again = [piece for index in ids for piece in new.pieces.get(index, [index])]
    assert again == old(text, add_special_tokens=False)["input_ids"]
    assert sum(index in new.pieces for index in ids) >= sum(word in NEW for word in words)
    assert not {index for word in ("hegemonikons", "soul") for index in ids_alone(new.tokenizer, [word])[0]} & {
        *new.pieces
    }
    assert [found.tolist() for found in TokenIds(new.tokenizer)([text])] == [ids]


def test_unigram_keeps_its_cuts_in_other_words(tokenizers, extended):
    for word in ["the", "soul", "of", "a", "philosopher", "rules", "universe", "universality"]:
        assert ids_alone(extended["unigram"].tokenizer, [word]) == ids_alone(tokenizers["unigram"], [word])


def test_unigram_takes_no_part_of_a_word_that_was_cut_elsewhere(corpus):
    texts = corpus["train"]["text"][:100]
    before = train_tokenizer(texts, 1200, tokenizer_type="unigram")
    words = sorted({word for text in texts for word in text.split()})
    added = add_words(before, ["univ", "reas", "tho", "philosopher", "natur", "beginnin"])
    for word, old, new in zip(words, *(ids_alone(each, words) for each in (before, added.tokenizer)), strict=True):
        assert [piece for index in new for piece in added.pieces.get(index, [index])] == old, word


def test_twice_is_once_and_known_words_are_left_out(extended):
    for added in extended.values():
        assert add_words(added.tokenizer, NEW).tokenizer is added.tokenizer
        assert add_words(added.tokenizer, [*NEW, "logoi"]).known == NEW
    assert add_words(load_tokenizer("mini"), ["Logoi", "logoi"]).pieces.keys() == {8192}


def test_what_cannot_be_one_token_is_refused(tokenizers):
    with pytest.raises(ValueError, match=r"add_tokens: 'un-ruly' cannot be one token"):
        add_words(tokenizers["bpe"], ["un-ruly", "logoi"])
    for kind in ("character", "kmer"):
        with pytest.raises(ValueError, match="of the type WordLevel"):
            add_words(train_tokenizer(TEXTS, 330, tokenizer_type=kind), NEW)
    assert isinstance(tokenizers["bpe"], PreTrainedTokenizerFast)


def test_a_whole_word_that_merges_cannot_build_is_a_token_from_then_on(tokenizers):
    state = json.loads(tokenizers["bpe"].backend_tokenizer.to_str())
    there = state["model"]["vocab"]["\u0120unruly"] = len(tokenizers["bpe"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **tokenizers["bpe"].special_tokens_map
    )
    assert len(ids_alone(tokenizer, ["unruly"])[0]) > 1
    for words, new in ((["unruly"], 0), (["unruly", "universes"], 1), (["universes"], 1)):
        added = add_words(tokenizer, words)
        assert [*added.pieces] == [*range(there + 1, there + 1 + new)]  # no id is left out
        assert added.known == [word for word in words if word == "unruly"]
        assert ids_alone(added.tokenizer, ["unruly"]) == [[there]]
