"""The loss of whole words, which can be compared between models with different vocabularies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.text_to_ids import special_tokens
from ..masking.batch_layout import IGNORE_INDEX
from ..masking.random_keys import CHOOSE, EVALUATION_EPOCH, Floats, Ints, draw, sequence_keys
from ..metrics_file import Measure, WordSample
from .paired_bootstrap import paired_changes
from .token_results import TokenResults

#: A word is what stands between spaces, with the punctuation next to it: no token crosses a space. Longer ones, such as
#: addresses and Chinese sentences, would cost too many passes.
_WORD = re.compile(r"(?<!\S)\S{1,32}(?!\S)")

#: About how many characters a token has; the sample must not depend on a vocabulary.
_CHARACTERS = 4

Place = tuple[int, int, int]


def choose_words(texts: Sequence[str], example_ids: Sequence[int], seed: int, budget: int) -> list[Place]:
    """Choose words of paragraphs: for each, the paragraph's index, and where it begins and ends in its characters.

    Each word is chosen with the same probability, by `seed` and the paragraph's id, whatever the vocabulary is, so that
    about `budget` positions are computed if a token has four characters.

    >>> choose_words(["To be."], [0], seed=0, budget=100)
    [(0, 0, 2), (0, 3, 6)]
    """
    found = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    costs = sum(
        -(-(end - start) // _CHARACTERS) * (len(text) // _CHARACTERS + 2)
        for text, words in zip(texts, found, strict=True)
        for start, end in words
    )
    share = min(1.0, budget / max(1, costs))
    counts = np.array([len(words) for words in found], dtype=np.int64)
    keys = sequence_keys(seed, EVALUATION_EPOCH - 2, np.asarray(example_ids, dtype=np.int64))
    return [
        (index, *words[number])
        for index, words in enumerate(found)
        if words
        for number in np.flatnonzero(draw(keys[index : index + 1], counts[index : index + 1], CHOOSE) < share).tolist()
    ]


@dataclass(frozen=True)
class MaskedWords:
    """Copies of paragraphs, in each of which a token of a word is predicted.

    Attributes:
        rows: `input_ids` and `labels`, one for each token of each word.
        of_word: the index of each row's word.
        places: where each word is, as `choose_words` returns it.
    """

    rows: list[dict[str, Any]]
    of_word: Ints
    places: list[Place]

    def measure(self, evaluate: Callable[[Any, int], TokenResults]) -> Floats:
        """Return the loss of each word in nats: the sum over its tokens, shape `(words,)`."""
        results = evaluate(self.rows, 0)
        found = np.bincount(self.of_word[results.row], weights=results.nats, minlength=len(self.places))
        return found.astype(np.float64)


def mask_words(texts: Sequence[str], places: Sequence[Place], tokenizer: Any, max_length: int) -> MaskedWords:
    """Mask words: for the i-th token of a word, that token and those of the word after it.

    So a model never sees the rest of the word that it predicts, and a word of many pieces is not easier than it should
    be (PLL-word-l2r; Kauf and Ivanova 2023, https://arxiv.org/abs/2305.10588). The losses of its tokens add up to the
    word's: the model's own factors of its probability. The context is the paragraph, or as much of it around the word
    as fits into `max_length` tokens. A word with an unknown token is left out, since [UNK] is easy to guess; and so are
    all if the tokenizer does not tell where its tokens are.

    >>> from mlm_recipes import load_tokenizer
    >>> tokenizer = load_tokenizer("mini")
    >>> masked = mask_words(["A hegemonikon."], [(0, 2, 14)], tokenizer, 64)
    >>> [tokenizer.decode(row["input_ids"]).count("[MASK]") for row in masked.rows]
    [6, 5, 4, 3, 2, 1]
    """
    rows: list[dict[str, Any]] = []
    of_word: list[int] = []
    kept: list[Place] = []
    if tokenizer.is_fast:
        before, after = (each.tolist() for each in special_tokens(tokenizer))
        room = max_length - len(before) - len(after)
        encoded: dict[int, Any] = {}
        for place in places:
            index, begin, end = place
            if index not in encoded:
                encoded = {
                    index: tokenizer(texts[index], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
                }
            ids, offsets = encoded[index]["input_ids"], encoded[index]["offset_mapping"]
            own = [number for number, (first, last) in enumerate(offsets) if first < end and last > begin]
            if not own or len(own) > room or any(ids[number] in tokenizer.all_special_ids for number in own):
                continue
            first = max(0, min((own[0] + own[-1] + 1 - room) // 2, len(ids) - room))
            window = [*before, *ids[first : first + room], *after]
            positions = [number - first + len(before) for number in own]
            for number, position in enumerate(positions):
                row, labels = [*window], [IGNORE_INDEX] * len(window)
                labels[position] = window[position]
                for hidden in positions[number:]:
                    row[hidden] = tokenizer.mask_token_id
                rows.append({"input_ids": row, "labels": labels, "example_id": len(rows)})
                of_word.append(len(kept))
            kept.append(place)
    return MaskedWords(rows, np.array(of_word, dtype=np.int64), kept)


@contextmanager
def without_tokens(model: Any, ids: Sequence[int]) -> Iterator[None]:
    """Within `with`, let a model predict as if it had no row for some tokens: their probability is 0.

    A model whose rows were added is then the model from before. `model` has a head with a matrix of its own.
    """
    if not ids:
        yield
        return
    chosen = [*ids]

    def hide(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        hidden = logits.clone()
        hidden[..., chosen] = torch.finfo(logits.dtype).min
        return hidden

    handle = model.get_output_embeddings().register_forward_hook(hide)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class MeasuredWords:
    """Words that are measured before and after training, each time with the vocabulary of then.

    Attributes:
        now: the words by the run's tokenizer.
        original: the same words by the tokenizer without the words of `add_tokens`, and the ids of these.
        texts: the paragraphs.
        share: the share of all words that was chosen.
    """

    now: MaskedWords
    original: MaskedWords
    new_ids: tuple[int, ...]
    texts: list[str]
    share: float

    @classmethod
    def of(
        cls, rows: Any, tokenizer: Any, original: Any, new_ids: Sequence[int], max_length: int, seed: int, budget: int
    ) -> MeasuredWords | None:
        """Choose words of `rows` with `text` and `example_id`; None if no word is known to both vocabularies."""
        texts = list(rows["text"])
        chosen = choose_words(texts, list(rows["example_id"]), seed, budget)
        now = mask_words(texts, chosen, tokenizer, max_length)
        then = now
        if new_ids:
            then = mask_words(texts, now.places, original, max_length)
            now = mask_words(texts, then.places, tokenizer, max_length)
        if not now.places:
            return None
        share = len(now.places) / sum(len(text.split()) for text in texts)
        return cls(now, then, tuple(new_ids), texts, share)

    def measure(self, model: Any, evaluate: Callable[[Any, int], TokenResults], original: bool) -> Floats:
        """Return each word's loss in nats; with `original`, by the vocabulary without the added words."""
        if not original:
            return self.now.measure(evaluate)
        with without_tokens(model, self.new_ids):
            return self.original.measure(evaluate)

    def _sums(self, nats: Floats, amounts: Ints) -> Floats:
        paragraph = np.array([index for index, _, _ in self.now.places], dtype=np.int64)
        count = len(self.texts)
        columns = [np.bincount(paragraph, weights=column, minlength=count) for column in (nats, amounts)]
        nothing = np.zeros(count)
        return np.stack([columns[0], nothing, nothing, columns[1]], axis=1)

    def changes(self, before: Floats, after: Floats) -> tuple[Measure, Measure]:
        """Return the loss per word and per character before and after, with intervals over paragraphs."""
        per_word, per_character = (
            paired_changes(self._sums(before, amounts), self._sums(after, amounts), ["loss"])["loss"]
            for amounts in (np.ones(len(before), dtype=np.int64), self._characters())
        )
        return per_word, per_character

    def _characters(self) -> Ints:
        return np.array([end - begin for _, begin, end in self.now.places], dtype=np.int64)

    def per_word_and_character(self, nats: Floats) -> tuple[float, float]:
        """Return a model's loss per word and per character."""
        total = float(nats.sum())
        return total / len(nats), total / int(self._characters().sum())

    def sample(self) -> WordSample:
        """Return what is measured; runs with the same fingerprint were measured on the same words of the same text."""
        digest = hashlib.sha256()
        for index, begin, end in self.now.places:
            text = self.texts[index].encode("utf-8", "surrogatepass")
            digest.update(hashlib.sha256(text).digest() + f"{begin}:{end};".encode())
        return {
            "words": len(self.now.places),
            "characters": int(self._characters().sum()),
            "paragraphs": len({index for index, _, _ in self.now.places}),
            "share": self.share,
            "tokens_before": len(self.original.rows),
            "tokens_after": len(self.now.rows),
            "fingerprint": digest.hexdigest(),
        }
