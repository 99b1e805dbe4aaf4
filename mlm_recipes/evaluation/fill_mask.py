"""Chooses fill-mask prompts from held-out text, and lets a model fill them."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..masking.policies import special_token_ids
from ..model.evaluation_mode import evaluation_mode
from ..model.fit import embedding_rows
from ..model.positions import max_positions

# Complete words that consist of letters; in scripts without spaces between words, single characters.
LONG_WORD = r"(?<![\w'-])[^\W\d_]{4,}(?![\w'-])"
SHORT_WORD = r"(?<![\w'-])[^\W\d_]{1,3}(?![\w'-])"
CHARACTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"


@dataclass(frozen=True)
class Prompt:
    """A piece of text with one word masked, and that word."""

    text: str
    answer: str


def choose_prompts(
    texts: Sequence[str],
    tokenizer: Any,
    count: int = 5,
    seed: int = 0,
    per_text: int = 1,
    max_length: int | None = None,
) -> list[Prompt]:
    """Return `count` prompts with one masked word each, chosen by `seed` before any model has seen them.

    The paragraphs are in a random order. One word is chosen in each, then with `per_text` above 1 a second in each, and
    so on. A word must be a single token of the tokenizer, of four letters or more if there is one. The prompt contains
    up to nine words before it and six after it, and fewer if it would otherwise exceed `max_length` tokens.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["he is a good king"] * 3, vocab_size=200)
    >>> choose_prompts(["He is a king."], tokenizer)
    [Prompt(text='He is a [MASK].', answer='king')]
    """
    chooser, special = random.Random(seed), set(special_token_ids(tokenizer).tolist())
    order = chooser.sample(range(len(texts)), len(texts))
    prompts: list[Prompt] = []
    for pattern in (LONG_WORD, SHORT_WORD, CHARACTER):
        left: dict[int, list[re.Match[str]]] = {}
        for _, index in itertools.product(range(per_text), order):
            if len(prompts) == count:
                return prompts
            if tokenizer.mask_token in texts[index]:
                continue  # a text about masks: the prompt would have two
            if index not in left:
                left[index] = [
                    match
                    for match in re.finditer(pattern, texts[index])
                    if _is_one_token(match.group(), texts[index], match.start(), tokenizer, special)
                ]
            if left[index]:
                word = chooser.choice(left[index])
                left[index].remove(word)
                prompt = _mask(texts[index], word, tokenizer, max_length)
                prompts += [] if prompt is None else [prompt]
        if prompts:
            break
    return prompts


def _is_one_token(word: str, text: str, start: int, tokenizer: Any, special: set[int]) -> bool:
    # The space before a word is included, because byte-level tokenizers such as RoBERTa's make it part of the token.
    before = " " if start and text[start - 1].isspace() else ""
    ids = tokenizer(before + word, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] not in special


def _mask(text: str, word: re.Match[str], tokenizer: Any, max_length: int | None) -> Prompt | None:
    """Return the prompt with the most context that fits into `max_length` tokens; None if no prompt fits."""
    # The second cut, in characters, is for scripts without spaces. It is repeated with fewer characters, since a
    # character may be several tokens in a byte-level vocabulary that has few words of the script.
    for characters in (50, 25, 12, 6, 0):
        before = " ".join(text[: word.start()].rsplit(maxsplit=9)[-9:])
        before = before[max(0, len(before) - 3 * characters) :]
        after = " ".join(text[word.end() :].split(maxsplit=6)[:6])[: 2 * characters]
        glue_before = " " if before and text[word.start() - 1].isspace() else ""
        glue_after = " " if after and text[word.end()].isspace() else ""
        prompt = Prompt(before + glue_before + tokenizer.mask_token + glue_after + after, word.group())
        if max_length is None or len(tokenizer(prompt.text)["input_ids"]) <= max_length:
            return prompt
    return None


def answer_id(prompt: Prompt, tokenizer: Any) -> int:
    """Return the token id of a chosen prompt's answer."""
    before = " " if prompt.text.split(tokenizer.mask_token)[0][-1:].isspace() else ""
    (index,) = tokenizer(before + prompt.answer, add_special_tokens=False)["input_ids"]
    return int(index)


def fill_mask(
    model: Any, tokenizer: Any, prompts: Sequence[str], top_k: int = 3
) -> list[list[list[tuple[str, float]]]]:
    """Return, for each prompt and each mask in it, the `top_k` likeliest tokens with their probabilities.

    `[MASK]` in a prompt represents the tokenizer's mask token, whatever its name is.

    Raises: ValueError for a prompt without a mask, a prompt with more tokens than the model has positions, or a `top_k`
    that is not between 1 and the size of the vocabulary.
    """
    vocabulary = embedding_rows(model)
    if not 1 <= top_k <= vocabulary:
        raise ValueError(f"top_k: received {top_k}. Accepted: 1 to {vocabulary}, the size of the vocabulary. Try 5.")
    return [
        [likeliest(probabilities, tokenizer, top_k) for probabilities in masks]
        for masks in mask_probabilities(model, tokenizer, prompts)
    ]


def likeliest(probabilities: torch.Tensor, tokenizer: Any, top_k: int) -> list[tuple[str, float]]:
    """Return the `top_k` likeliest tokens with their probabilities; `probabilities` has shape `(vocab,)`."""
    best = probabilities.topk(top_k)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(tokenizer.decode([token]).strip(), p) for token, p in pairs]


@torch.no_grad()
def mask_probabilities(model: Any, tokenizer: Any, prompts: Sequence[str]) -> Iterator[torch.Tensor]:
    """Yield, for each prompt, each token's probability at each of the masks, float32, shape `(masks, vocab)`.

    Raises: as `fill_mask`.
    """
    with evaluation_mode(model):
        for prompt in prompts:
            inputs = tokenizer(prompt.replace("[MASK]", tokenizer.mask_token), return_tensors="pt").to(model.device)
            masks = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]  # (masks,)
            if len(masks) == 0:
                raise ValueError(
                    f"prompt: {prompt!r} has no mask. Accepted: a sentence with [MASK] where a word is to be filled "
                    'in, such as "The [MASK] of man."'
                )
            length, limit = inputs["input_ids"].shape[1], max_positions(model)
            if length > limit:
                raise ValueError(
                    f"prompt: received {length} tokens. Accepted: at most {limit}, the model's positions. Shorten it."
                )
            yield model(**inputs).logits[0, masks].float().softmax(-1)
