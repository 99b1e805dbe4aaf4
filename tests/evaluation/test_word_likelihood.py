"""The loss of whole words: by the definition, the same words for every vocabulary, and the model from before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_bert
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from same_run import loss_bound

from mlm_recipes import DataCollatorForMaskedLM, train_tokenizer
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.evaluation.word_likelihood import MeasuredWords, choose_words, mask_words, without_tokens
from mlm_recipes.training.optimization.new_tokens import extend

TEXTS = ["The hegemonikon, of the soul is (good).", "Oikeiosis is a word: hegemonikon", "\u4eba to", "  to  be  "]


def evaluator(model, tokenizer, sparse=False):
    def evaluate(rows, draw):
        collate = DataCollatorForMaskedLM(tokenizer).frozen(0, draw)
        return TokenResults.of([evaluate_tokens(model, rows, collate, batch_size=7, sparse=sparse)])

    return evaluate


def decided(model):
    """Make a model's predictions differ: with its usual start, they hardly depend on what is masked."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    return model


def naive(model, tokenizer, text, begin, end):
    """The definition: the word's tokens from left to right, each with those after it masked too."""
    found = tokenizer(text, return_offsets_mapping=True)
    own = [i for i, (first, last) in enumerate(found["offset_mapping"]) if first < end and last > begin]
    nats = 0.0
    for number, position in enumerate(own):
        ids = torch.tensor([found["input_ids"]])
        ids[0, own[number:]] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model.eval()(ids).logits[0, position]
        nats -= logits.log_softmax(-1)[found["input_ids"][position]].item()
    return nats


@pytest.mark.parametrize("sparse", [False, True])
def test_a_words_loss_is_that_of_its_tokens_from_left_to_right(sparse, tiny_bert, tokenizer):
    chosen = choose_words(TEXTS, range(4), seed=0, budget=10**6)
    assert [TEXTS[index][begin:end] for index, begin, end in chosen] == " ".join(TEXTS).split()
    masked = mask_words(TEXTS, chosen, tokenizer, 128)
    decided(tiny_bert)
    assert [*masked.places] == [place for place in chosen if TEXTS[place[0]][place[1]] != "\u4eba"]
    found = masked.measure(evaluator(tiny_bert, tokenizer, sparse))
    expected = [naive(tiny_bert, tokenizer, TEXTS[index], begin, end) for index, begin, end in masked.places]
    np.testing.assert_allclose(found, expected, rtol=10 * loss_bound(tiny_bert))


@given(st.lists(st.text("ab \u4eba", max_size=60), max_size=5), st.integers(1, 400))
def test_the_sample_depends_on_the_text_only(texts, budget):
    chosen = choose_words(texts, range(len(texts)), seed=3, budget=budget)
    every = choose_words(texts, range(len(texts)), seed=3, budget=10**9)
    assert set(chosen) <= set(every)
    for index, begin, end in every:
        assert texts[index][begin:end].split() == [texts[index][begin:end]]
    alone = choose_words(texts[1:], range(1, len(texts)), seed=3, budget=10**9)
    assert [(index + 1, begin, end) for index, begin, end in alone] == [place for place in every if place[0] > 0]


def test_a_long_paragraph_is_cut_around_the_word(tokenizer):
    text = "the man " * 70 + "universally " + "of good " * 30
    begin = text.index("universally")
    (first, *_) = mask_words([text], [(0, begin, begin + 11)], tokenizer, 16).rows
    assert len(first["input_ids"]) == 16
    assert (first["input_ids"][0], first["input_ids"][-1]) == (101, 102)
    assert 5 < first["input_ids"].index(103) < 10


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_other_vocabularies_measure_the_same_words(kind):
    rows = Dataset.from_dict({"text": [text for text in TEXTS if "\u4eba" not in text], "example_id": [0, 1, 2]})
    texts = rows["text"][:] * 20
    one, other = (
        MeasuredWords.of(rows, tokenizer, tokenizer, (), 64, seed=0, budget=10**6)
        for tokenizer in (train_tokenizer(texts, 400), train_tokenizer(texts, 400, tokenizer_type=kind))
    )
    assert one.sample()["fingerprint"] == other.sample()["fingerprint"]
    assert one.sample()["words"] == other.sample()["words"] == 14
    # Each character of a word is predicted once by a vocabulary of characters, and no space is.
    if kind == "character":
        assert len(other.now.rows) == other.sample()["characters"]


def test_before_is_the_model_without_the_added_words(tokenizer):
    model, base = make_bert(tokenizer), make_bert(tokenizer)
    rows = Dataset.from_dict({"text": TEXTS, "example_id": range(4)})
    added = extend(model, tokenizer, ["hegemonikon", "oikeiosis"])
    words = MeasuredWords.of(rows, added.tokenizer, tokenizer, [*added.pieces], 64, seed=0, budget=10**6)
    before = words.measure(model, evaluator(model, added.tokenizer), original=True)
    expected = words.original.measure(evaluator(base, tokenizer))
    np.testing.assert_allclose(before, expected, rtol=10 * loss_bound(base))
    after = words.measure(model, evaluator(model, added.tokenizer), original=False)
    # The new word is as likely as its pieces' mean; without the rows, it would be out of the question.
    assert words.sample()["tokens_after"] < words.sample()["tokens_before"]
    assert np.isfinite(after).all()
    assert after.sum() < before.sum()
    per_word, per_character = words.changes(before, after)
    assert per_word["before"] == pytest.approx(before.sum() / len(before))
    assert per_character["after"] == pytest.approx(after.sum() / words.sample()["characters"])


def test_hidden_tokens_have_no_probability_and_come_back(tiny_bert):
    inputs = {"input_ids": torch.tensor([[101, 500, 102]])}
    seen = tiny_bert.eval()(**inputs).logits
    with without_tokens(tiny_bert, [7, 9]):
        hidden = tiny_bert(**inputs).logits
    assert (hidden.softmax(-1)[..., [7, 9]] == 0).all()
    assert torch.equal(hidden[..., :7], seen[..., :7])
    assert torch.equal(tiny_bert(**inputs).logits, seen)


def test_a_text_without_words_is_not_measured(tokenizer):
    rows = Dataset.from_dict({"text": ["\u4eba" * 50], "example_id": [0]})
    assert MeasuredWords.of(rows, tokenizer, tokenizer, (), 64, seed=0, budget=100) is None
