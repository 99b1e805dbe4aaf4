from __future__ import annotations

import pytest
from same_run import loss_bound

from mlm_recipes.evaluation.fill_mask import Prompt, choose_prompts, fill_mask
from mlm_recipes.evaluation.prompts import Filled, Prompts

MASK = "[MASK]"


def filled(*probabilities):
    return [Filled(p, [["word", p]]) for p in probabilities]


@pytest.fixture
def six():
    return Prompts([Prompt(f"{n} {MASK}", f"answer{n}") for n in range(9)])


def test_the_largest_rises_and_falls_are_both_shown(six):
    before = filled(0.5, 0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.5, 0.5)
    after = filled(0.5, 0.8, 0.1, 0.2, 0.6, 0.4, 0.4, 0.6, 0.5)
    shown = six.shown(before, after)
    assert shown == [
        (1, "rose most"), (4, "rose most"), (3, "fell most"), (2, "fell most"), (0, "at random"), (5, "at random"),
    ]  # fmt: skip
    entries = six.entries(after, shown)
    assert entries[0] == {
        "prompt": "1 [MASK]", "answer": "answer1", "chosen": "rose most", "probability": 0.8, "top": [["word", 0.8]],
    }  # fmt: skip


def test_no_fall_is_shown_if_none_fell(six):
    shown = six.shown(filled(*[0.1] * 9), filled(*[0.2] * 9))
    assert [chosen for _, chosen in shown] == ["rose most", "rose most", *["at random"] * 4]
    assert {chosen for _, chosen in six.shown(filled(*[0.1] * 9), filled(*[0.1] * 9))} == {"at random"}
    assert len({index for index, _ in shown}) == 6


def test_a_single_model_has_random_prompts(six):
    assert six.shown(None, filled(*[0.1] * 9)) == [(index, "at random") for index in range(6)]


def test_more_prompts_keep_the_first_ones(corpus, tokenizer):
    texts = list(corpus["validation"]["text"])
    many = choose_prompts(texts, tokenizer, count=200, seed=3, per_text=4)
    assert many[:5] == choose_prompts(texts, tokenizer, count=5, seed=3)
    assert len(set(many)) == len(many) > len(texts)


def test_the_probability_is_that_of_the_masked_word(corpus, tokenizer, tiny_bert):
    prompts = Prompts.choose(list(corpus["validation"]["text"])[:6], tokenizer, seed=0, count=12, max_length=64)
    found = prompts.fill(tiny_bert, tokenizer)
    for prompt, answer in zip(prompts.candidates, found, strict=True):
        ((guesses,),) = fill_mask(tiny_bert, tokenizer, [prompt.text], top_k=len(tokenizer))
        spelled = [p for token, p in guesses if token == prompt.answer.lower()]
        assert answer.probability == pytest.approx(spelled[0], rel=20 * loss_bound(tiny_bert))
        assert [tuple(pair) for pair in answer.top] == guesses[:5]


def test_the_users_prompts_are_all_shown_without_answers(tmp_path, tokenizer, tiny_bert):
    (tmp_path / "mine.txt").write_text("\ufeffThe [MASK] of man.\n\n  A good [MASK]. \n", encoding="utf-8")
    prompts = Prompts.read(tmp_path / "mine.txt", tokenizer.mask_token)
    assert [prompt.text for prompt in prompts.candidates] == ["The [MASK] of man.", "A good [MASK]."]
    found = prompts.fill(tiny_bert, tokenizer)
    entries = prompts.entries(found, prompts.shown(found, found))
    assert [(entry["answer"], entry["chosen"], entry["probability"]) for entry in entries] == [
        (None, "yours", None)
    ] * 2
    assert all(len(entry["top"]) == 5 for entry in entries)


def test_the_tokenizers_own_mask_token_is_accepted(tmp_path):
    (tmp_path / "mine.txt").write_text("The [MASK].\nThe <mask>.\n")
    assert [p.text for p in Prompts.read("mine.txt", "<mask>").candidates] == ["The <mask>."] * 2


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, FileNotFoundError, "prompts: 'mine.txt' is not a file"),
        (b"", ValueError, "has no prompts"),
        (b"a sentence [MASK]\nanother one\n", ValueError, r"line 2 of 'mine.txt' has no \[MASK\]: 'another one'"),
        (b"[MASK] and [MASK]\n", ValueError, r"line 1 of 'mine.txt' has 2 \[MASK\]"),
        (b"caf\xe9 [MASK]\n", ValueError, "is not UTF-8"),
    ],
)
def test_invalid_prompt_files_are_refused(tmp_path, content, error, says):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(error, match=says):
        Prompts.read("mine.txt", MASK)
