"""Chooses fill-mask prompts from held-out text, and lets a model fill them."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..data.text_to_ids import can_encode
from ..masking.vocabulary import special_token_ids
from ..model.embeddings import embedding_rows
from ..model.evaluation_mode import evaluation_mode
from ..model.positions import max_positions
from ..sources.escaping import one_line

# Complete words that consist of letters; in scripts without spaces between words, single characters.
LONG_WORD = r"(?<![\w'\u2019-])[^\W\d_]{4,}(?![\w'\u2019-])"
SHORT_WORD = r"(?<![\w'\u2019-])[^\W\d_]{1,3}(?![\w'\u2019-])"
CHARACTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"

#: The most characters before the mask; two thirds of it after the mask.
_CHARACTERS = 150


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
    up to nine words before it and six after it, and fewer if it would otherwise exceed `max_length` tokens. A word that
    cannot be shown, not even alone, is passed over; so there may be fewer prompts.

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
            if tokenizer.mask_token in texts[index] or "[MASK]" in texts[index]:
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
    # The cut in characters is for scripts without spaces, and for words as long as a web address. How many characters
    # fit is found by halving, since a character may be several tokens, and a token several characters.
    fitting: Prompt | None = None
    fewest, most = 0, _CHARACTERS
    characters = most
    while fewest <= most:
        prompt = _with_context(text, word, characters, tokenizer.mask_token)
        known = can_encode(tokenizer, with_mask(prompt.text, tokenizer))  # half a word may not be in the vocabulary
        if known and (max_length is None or len(_prompt_ids(prompt, tokenizer)) <= max_length):
            fitting, fewest = prompt, characters + 1
        else:
            most = characters - 1
        characters = (fewest + most) // 2
    return fitting if fitting is not None and _can_be_shown(fitting, tokenizer) else None


def _with_context(text: str, word: re.Match[str], characters: int, mask: str) -> Prompt:
    """Return a prompt with up to nine words and `characters` before the mask, and two thirds of that after it."""
    before = " ".join(text[: word.start()].rsplit(maxsplit=9)[-9:])
    before = before[max(0, len(before) - characters) :]
    after = " ".join(text[word.end() :].split(maxsplit=6)[:6])[: 2 * characters // 3]
    glue_before = " " if before and text[word.start() - 1].isspace() else ""
    glue_after = " " if after and text[word.end()].isspace() else ""
    return Prompt(before + glue_before + mask + glue_after + after, word.group())


def _can_be_shown(prompt: Prompt, tokenizer: Any) -> bool:
    """Tell whether a prompt has one mask, and its answer still is one token with what is left before it."""
    masks = _prompt_ids(prompt, tokenizer).count(tokenizer.mask_token_id)
    return masks == 1 and len(_answer_ids(prompt, tokenizer)) == 1


def _prompt_ids(prompt: Prompt, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(with_mask(prompt.text, tokenizer), verbose=False)["input_ids"]
    return ids


def answer_id(prompt: Prompt, tokenizer: Any) -> int:
    """Return the token id of a chosen prompt's answer."""
    (index,) = _answer_ids(prompt, tokenizer)
    return index


def _answer_ids(prompt: Prompt, tokenizer: Any) -> list[int]:
    before = " " if prompt.text.split(tokenizer.mask_token)[0][-1:].isspace() else ""
    ids: list[int] = tokenizer(before + prompt.answer, add_special_tokens=False)["input_ids"]
    return ids


def with_mask(prompt: str, tokenizer: Any) -> str:
    """Return a prompt in which the tokenizer's own mask replaces `[MASK]`."""
    return prompt.replace("[MASK]", tokenizer.mask_token)


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
            inputs = prompt_inputs(model, tokenizer, prompt).to(model.device)
            masks = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]  # (masks,)
            yield model(**inputs).logits[0, masks].float().softmax(-1)


def prompt_inputs(model: Any, tokenizer: Any, prompt: str) -> Any:
    """Return the tokenizer's output for a prompt that the model can fill, as tensors of shape `(1, tokens)`.

    Raises: as `fill_mask`.
    """
    text = with_mask(prompt, tokenizer)
    if tokenizer.mask_token in text and not can_encode(tokenizer, text):
        raise ValueError(
            f"prompt: {one_line(prompt[:60])!r} is not in the vocabulary, which has no token for unknown text. "
            "Accepted: text that it has tokens for. Change the prompt."
        )
    inputs = tokenizer(text, return_tensors="pt")
    if not (inputs["input_ids"] == tokenizer.mask_token_id).any():
        raise ValueError(
            f"prompt: {prompt!r} has no mask. Accepted: a sentence with [MASK] where a word is to be filled "
            'in, such as "The [MASK] of man."'
        )
    length, limit = inputs["input_ids"].shape[1], max_positions(model)
    if length > limit:
        raise ValueError(
            f"prompt: {one_line(prompt[:60])!r} has {length} tokens. Accepted: at most {limit}, the model's "
            "positions. Shorten it."
        )
    return inputs
