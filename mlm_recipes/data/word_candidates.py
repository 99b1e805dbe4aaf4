"""Scores the words of a text by the tokens that each would save if it were one token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import pre_tokenizers

from .added_words import ids_alone


@dataclass(frozen=True)
class Candidate:
    """A word that the tokenizer breaks into pieces: how often the text has it, and in how many paragraphs."""

    word: str
    frequency: int
    paragraphs: int
    pieces: tuple[str, ...]

    @property
    def saved(self) -> int:
        """The tokens that are saved if the word becomes one: each time that it occurs, all pieces but one."""
        return self.frequency * (len(self.pieces) - 1)


def candidates(texts: Iterable[str], tokenizer: Any, at_least: int = 3) -> list[Candidate]:
    """Return the words that break into pieces, those that cost most tokens first; then by the alphabet.

    Args:
        texts: paragraphs of the training split.
        tokenizer: one that `mlm_recipes.data.added_words.add_words` accepts; its own rules of case and accents decide
            which spellings are the same word.
        at_least: a word must be in at least this many paragraphs, so that it is no name of a single one.

    A word has three letters or more, and nothing but letters: numbers and addresses are none. A word with an unknown
    piece is left out.

    >>> from mlm_recipes import load_tokenizer
    >>> found = candidates(["Logoi, and logoi.", "logoi", "x1"], load_tokenizer("mini"), at_least=2)
    >>> [(each.word, each.frequency, each.pieces, each.saved) for each in found]
    [('logoi', 3, ('lo', '##go', '##i'), 6)]
    """
    frequency: Counter[str] = Counter()
    paragraphs: Counter[str] = Counter()
    normalizer = tokenizer.backend_tokenizer.normalizer
    split = pre_tokenizers.BertPreTokenizer()  # at spaces and punctuation, without the signs of a tokenizer
    for text in texts:
        found = split.pre_tokenize_str(text if normalizer is None else normalizer.normalize_str(text))
        words = Counter(word for word, _ in found if len(word) > 2 and word.isalpha())
        frequency.update(words)
        paragraphs.update(words.keys())
    common = sorted(word for word in frequency if paragraphs[word] >= at_least)
    every = ids_alone(tokenizer, common)
    broken = [
        Candidate(word, frequency[word], paragraphs[word], tuple(tokenizer.convert_ids_to_tokens(ids)))
        for word, ids in zip(common, every, strict=True)
        if len(ids) > 1 and tokenizer.unk_token_id not in ids
    ]
    return sorted(broken, key=lambda each: (-each.saved, each.word))
