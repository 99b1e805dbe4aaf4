from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mlm_recipes import train_tokenizer
from mlm_recipes.data.windows import cut_points, paragraph_of, window_ids, window_of


@given(st.text("ab c.?\n", min_size=1, max_size=80), st.integers(1, 20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_cover_the_text_and_none_is_too_long(tokenizer, text, room):
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    points = cut_points(text, tokenizer, room)
    assert (points[0], points[-1]) == (0, length)
    assert all(0 < end - begin <= room for begin, end in itertools.pairwise(points)) or length == 0


def pieces(text, tokenizer, room):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    points = cut_points(text, tokenizer, room)
    return [tokenizer.decode(ids[begin:end]) for begin, end in itertools.pairwise(points)]


def test_a_window_ends_with_a_sentence_a_word_or_when_full(tokenizer):
    assert pieces("The man is good. The soul is good! Is it?", tokenizer, 12) == [
        "the man is good. the soul is good!",
        "is it?",
    ]
    words = "the man is good and the soul is good and all is one"
    assert pieces(words, tokenizer, 5)[0] == "the man is good and"
    unknown = "zzzzxqzzzzzzxqzz the man"  # one word with many pieces
    length = len(tokenizer("zzzzxqzzzzzzxqzz", add_special_tokens=False)["input_ids"])
    assert length > 5
    points = cut_points(f"the {unknown}", tokenizer, length)
    assert points[1] == 1  # a word that does not fit begins the next window, uncut
    assert cut_points(unknown, tokenizer, 3)[:3] == [0, 3, 6]


@pytest.mark.parametrize("end", ['." ', "?) ", "\u2026 ", "!\u201d ", "\n"])
def test_ends_of_sentences(tokenizer, end):
    text = f"the man is good{end}the soul is good and the man"
    first, *_ = pieces(text, tokenizer, 7)
    assert first.startswith("the man is good")
    assert "soul" not in first


def test_sentences_without_a_space_between_them():
    tokenizer = train_tokenizer(["\u4eba\u597d\u3002\u5fc3\u597d\u3002"] * 2, vocab_size=200)
    assert cut_points("\u4eba\u597d\u3002\u5fc3\u597d\u3002\u4eba\u597d\u3002", tokenizer, 5) == [0, 3, 6, 9]


def test_a_tokenizer_that_includes_the_space_in_the_word(corpus):
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(corpus["train"]["text"][:200], trainer)
    learner.post_processor, learner.decoder = processors.ByteLevel(trim_offsets=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner)
    first, *_ = pieces("the man is good. the soul is good and the man is one.", tokenizer, 9)
    assert first == "the man is good."


def test_ids_of_windows():
    ids = np.array([*window_ids(5, 3), *window_ids(6, 1)])
    assert len(set(ids.tolist())) == 4
    assert paragraph_of(ids).tolist() == [5, 5, 5, 6]
    assert window_of(ids).tolist() == [0, 1, 2, 0]
