from __future__ import annotations

import json

import pytest
import torch
from conftest import make_bert
from same_run import loss_bound
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

from mlm_recipes.evaluation.fill_mask import Prompt, answer_id, choose_prompts, fill_mask
from mlm_recipes.evaluation.prompts import Prompts
from mlm_recipes.model.positions import max_positions


def test_prompts_are_held_out_text_with_one_word_masked(corpus, tokenizer):
    texts = list(corpus["validation"]["text"])
    prompts = choose_prompts(texts, tokenizer)
    assert len(prompts) == 5
    for prompt in prompts:
        assert prompt.text.count("[MASK]") == 1
        assert any(prompt.text.replace("[MASK]", prompt.answer) in " ".join(text.split()) for text in texts)
        assert len(tokenizer(prompt.answer, add_special_tokens=False)["input_ids"]) == 1
        assert len(prompt.answer) >= 4
    assert choose_prompts(texts, tokenizer) == prompts
    assert choose_prompts(texts, tokenizer, seed=1) != prompts


def test_a_script_without_spaces_has_prompts():
    from mlm_recipes import train_tokenizer

    text = "天行健君子以自強不息地勢坤君子以厚德載物" * 20
    tokenizer = train_tokenizer([text, text], vocab_size=200)
    (prompt,) = choose_prompts([text], tokenizer)
    assert len(prompt.answer) == 1
    assert len(prompt.text) < 300
    assert prompt.text.replace("[MASK]", prompt.answer) in text


def test_only_whole_words_are_masked(corpus):
    from mlm_recipes import train_tokenizer

    tokenizer = train_tokenizer(["moon n o m sun"] * 3, vocab_size=200)
    (prompt,) = choose_prompts(["moonlight and sun"], tokenizer)
    assert prompt == Prompt("moonlight and [MASK]", "sun")
    assert choose_prompts(["moonlight n-word o'clock"], tokenizer) == []


def test_a_text_without_words_has_no_prompts(tokenizer):
    assert choose_prompts(["1 2 3", "..."], tokenizer) == []


def test_fill_mask_equals_the_models_softmax(tiny_bert, tokenizer):
    prompt = "the [MASK] of [MASK] ."
    (masks,) = fill_mask(tiny_bert, tokenizer, [prompt], top_k=4)
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        probabilities = tiny_bert(**inputs).logits[0].softmax(-1)
    positions = (inputs["input_ids"][0] == 103).nonzero()[:, 0].tolist()
    assert len(masks) == 2
    for guesses, position in zip(masks, positions, strict=True):
        best = probabilities[position].topk(4)
        assert [token for token, _ in guesses] == [tokenizer.decode([i]).strip() for i in best.indices.tolist()]
        bound = 20 * loss_bound(tiny_bert)  # a probability's rounding depends on its logarithm, at most 20 here
        assert [p for _, p in guesses] == pytest.approx(best.values.tolist(), rel=bound)


@pytest.fixture(scope="module")
def byte_level():
    """A vocabulary as RoBERTa's, in which a space belongs to the word after it."""
    text = ["the doctor sees the captain and the patient reads"] * 20
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(text, trainer)
    parts = json.loads(learner.to_str())["model"]
    return RobertaTokenizer(vocab=parts["vocab"], merges=[tuple(merge) for merge in parts["merges"]])


def lengths(prompts, tokenizer):
    return [len(tokenizer(prompt.text)["input_ids"]) for prompt in prompts]


def test_chosen_prompts_fit_whatever_a_character_costs(byte_level):
    """A Chinese character is three tokens here, and a web address a word of sixty."""
    han = "\u7684\u4e00\u662f\u5728\u4e0d\u4e86" * 30
    url = "https://t.example/" + "x7k2" * 20
    texts = [f"{han}, patient {han}", f"doctor sees {url} {url} captain reads", f"{url} {url} {url} doctor {url}"]
    for limit in (512, 128, 30, 8, 4, 3, 2):
        prompts = choose_prompts(texts, byte_level, 20, per_text=3, max_length=limit)
        assert max(lengths(prompts, byte_level), default=0) <= limit
        for prompt in prompts:
            assert byte_level(prompt.text)["input_ids"].count(byte_level.mask_token_id) == 1
            assert answer_id(prompt, byte_level) >= 5
        assert bool(prompts) == (limit > 2)
    (longest, *_) = sorted(lengths(choose_prompts(texts, byte_level, 20, max_length=128), byte_level), reverse=True)
    assert longest > 120  # as much context as fits, not half of it


def test_a_word_that_is_one_token_only_after_a_space_is_passed_over(byte_level):
    """Without room for what is before it, its answer would be two tokens."""
    assert len(byte_level("captain", add_special_tokens=False)["input_ids"]) > 1
    assert len(byte_level(" captain", add_special_tokens=False)["input_ids"]) == 1
    for limit in (3, 4, 5, 60):
        for prompt in choose_prompts(["\u7684 captain"], byte_level, 9, per_text=3, max_length=limit):
            answer_id(prompt, byte_level)
    assert [prompt.answer for prompt in choose_prompts(["\u7684 captain"], byte_level, max_length=60)] == ["captain"]


def test_a_text_about_masks_is_passed_over_whatever_the_tokenizers_mask_is(byte_level):
    texts = ["the doctor sees [MASK]", "the doctor sees <mask>"]
    assert choose_prompts(texts, byte_level) == []


def test_a_model_with_offset_positions_takes_every_chosen_prompt(byte_level):
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=len(byte_level), max_position_embeddings=34, pad_token_id=1, **size)
    model = RobertaForMaskedLM(config)
    texts = ["patient " + "\u7684\u4e00" * 30 + " doctor " + "\u7684\u4e00" * 30] * 2
    prompts = Prompts.choose(texts, byte_level, seed=0, count=4, max_length=max_positions(model))
    assert 27 <= max(lengths(prompts.candidates, byte_level)) <= 32
    assert all(0 < answer.probability < 1 for answer in prompts.fill(model, byte_level))


def test_a_text_that_contains_a_mask_is_skipped(tokenizer):
    assert choose_prompts(["BERT writes [MASK] for a word"], tokenizer) == []


def test_the_mode_is_restored_and_top_k_checked(tiny_bert, tokenizer):
    tiny_bert.train()
    for top_k in (0, -1, 1001):
        with pytest.raises(ValueError, match=f"top_k: received {top_k}. Accepted: 1 to 1000"):
            fill_mask(tiny_bert, tokenizer, ["[MASK]"], top_k=top_k)
    with pytest.raises(ValueError, match="no mask"):
        fill_mask(tiny_bert, tokenizer, ["none"])
    assert tiny_bert.training


def test_a_prompt_without_a_mask_or_too_long_is_refused(tiny_bert, tokenizer):
    with pytest.raises(ValueError, match="has no mask"):
        fill_mask(tiny_bert, tokenizer, ["nothing to fill"])
    with pytest.raises(ValueError, match=r"prompt: '.*' has \d+ tokens\. Accepted: at most 128"):
        fill_mask(tiny_bert, tokenizer, ["[MASK]" + " word" * 200])


def test_a_prompt_fits_into_the_model(corpus, tokenizer):
    texts = corpus["validation"]["text"][:25]
    longest = max(len(tokenizer(prompt.text)["input_ids"]) for prompt in choose_prompts(texts, tokenizer, 20))
    for limit in (longest, 12, 5, 3):
        prompts = choose_prompts(texts, tokenizer, 20, max_length=limit)
        assert len(prompts) == 20
        assert all(len(tokenizer(prompt.text)["input_ids"]) <= limit for prompt in prompts)
        assert all(prompt.text.count("[MASK]") == 1 for prompt in prompts)
    assert choose_prompts(texts, tokenizer, 20, max_length=longest) == choose_prompts(texts, tokenizer, 20)
    assert choose_prompts(texts, tokenizer, 20, max_length=2) == []


def test_a_vocabulary_without_an_unknown_token_gets_whole_words_and_refuses_others():
    words = ["the", "captain", "repairs", "an", "engine", "while", "she", "sings"]
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *words]
    learner = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner, **named)
    found = choose_prompts([" ".join(words)] * 9, tokenizer, seed=0, count=9, max_length=5)
    assert all(len(tokenizer(prompt.text)["input_ids"]) <= 5 for prompt in found)
    model = make_bert(tokenizer)
    with pytest.raises(ValueError, match="'the ship \\[MASK\\]' is not in the vocabulary"):
        fill_mask(model, tokenizer, ["the ship [MASK]"])
    assert len(fill_mask(model, tokenizer, ["the captain [MASK]"])) == 1


@pytest.mark.parametrize("apostrophe", ["'", "\u2019"])
def test_a_part_of_a_word_with_an_apostrophe_is_no_word(tokenizer, apostrophe):
    found = choose_prompts([f"the soul{apostrophe}s good thoughts"] * 9, tokenizer, count=9)
    assert {prompt.answer for prompt in found} <= {"good", "thoughts"}
