from __future__ import annotations

import pytest
import torch
from same_run import loss_bound

from mlm_recipes.evaluation.fill_mask import Prompt, choose_prompts, fill_mask


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
    with pytest.raises(ValueError, match=r"received \d+ tokens\. Accepted: at most 128"):
        fill_mask(tiny_bert, tokenizer, ["[MASK]" + " word" * 200])


def test_a_prompt_fits_into_the_model(corpus, tokenizer):
    texts = corpus["validation"]["text"]
    longest = max(len(tokenizer(prompt.text)["input_ids"]) for prompt in choose_prompts(texts, tokenizer, 20))
    for limit in (longest, 12, 5, 3):
        prompts = choose_prompts(texts, tokenizer, 20, max_length=limit)
        assert len(prompts) == 20
        assert all(len(tokenizer(prompt.text)["input_ids"]) <= limit for prompt in prompts)
        assert all(prompt.text.count("[MASK]") == 1 for prompt in prompts)
    assert choose_prompts(texts, tokenizer, 20, max_length=longest) == choose_prompts(texts, tokenizer, 20)
    assert choose_prompts(texts, tokenizer, 20, max_length=2) == []
