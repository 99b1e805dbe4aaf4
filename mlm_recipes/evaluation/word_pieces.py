"""Words in measured text: which tokens begin one, and how the word at a position is spelled."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ..masking.random_keys import Bools, Ints
from ..masking.word_boundaries import WordBoundaries, word_boundaries


class WordPieces:
    """A tokenizer's words, as the masking policy `whole_word` finds them (masking/word_boundaries.py).

    If its tokens do not tell where a word begins, as in a vocabulary of amino acids, each token is a word.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> pieces = WordPieces(tokenizer)
    >>> ids = np.array(tokenizer("not toe")["input_ids"])
    >>> tokenizer.convert_ids_to_tokens(ids.tolist()), pieces.begin(ids).tolist()
    (['[CLS]', 'not', 'to', '##e', '[SEP]'], [True, True, True, False, True])
    >>> pieces.word_at(ids, pieces.begin(ids), 3)
    'toe'
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._boundaries: WordBoundaries | None = None
        with contextlib.suppress(ValueError):
            self._boundaries = word_boundaries(tokenizer)
        self._words: dict[tuple[int, ...], str] = {}

    def begin(self, ids: Ints) -> Bools:
        """Tell which tokens of a row begin a word or are separate, such as punctuation; shape `(tokens,)`."""
        if self._boundaries is None:
            return np.ones(len(ids), dtype=bool)
        return self._boundaries.begins(ids, np.array([len(ids)]))

    def word_at(self, ids: Ints, begins: Bools, position: int) -> str:
        """Return the whole word that contains the token at `position` of a row; `begins` is the result of `begin`."""
        start = position - int(np.argmax(begins[position::-1]))  # the nearest beginning, at or before the position
        later = np.flatnonzero(begins[position + 1 :])
        end = position + 1 + int(later[0]) if len(later) else len(ids)
        key = tuple(ids[start:end].tolist())
        if key not in self._words:
            tokens = self.tokenizer.convert_ids_to_tokens(list(key))
            self._words[key] = self.tokenizer.convert_tokens_to_string(tokens).removeprefix("##").strip()
        return self._words[key]
