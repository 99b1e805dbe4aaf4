"""Finds the tokens that begin a word, for any tokenizer: those that mark `##ing`, `Ġword` or `▁word`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..masking.random_keys import Bools, Ints

_CONTINUES = "##"
_BEGINS = ("\u0120", "\u2581")  # byte-level BPE's and SentencePiece's space


class WordPieces:
    """A tokenizer's vocabulary, which tells whether a token begins or continues a word.

    WordPiece marks tokens that continue a word. Byte-level BPE and SentencePiece mark the space before a word; with
    them, a token without that mark continues a word if it starts with a letter or digit and the token before ends with
    one.

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
        vocabulary = tokenizer.get_vocab()
        tokens = [""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            tokens[index] = token
        marks = {mark: sum(token.startswith(mark) for token in tokens) for mark in (_CONTINUES, *_BEGINS)}
        self._mark = max(marks, key=lambda mark: marks[mark])
        self._marked = np.array([token.startswith(self._mark) for token in tokens])
        self._starts_with_letter = np.array([token[:1].isalnum() for token in tokens])
        # A space that is a token by itself belongs to the word after it.
        self._ends_with_letter = np.array([token[-1:].isalnum() or token in _BEGINS for token in tokens])
        self._words: dict[tuple[int, ...], str] = {}

    def begin(self, ids: Ints) -> Bools:
        """Tell which tokens of a row begin a word or are separate, such as punctuation; shape `(tokens,)`."""
        if self._mark == _CONTINUES:
            return ~self._marked[ids]
        after_letter = np.concatenate([[False], self._ends_with_letter[ids[:-1]]])
        return self._marked[ids] | ~self._starts_with_letter[ids] | ~after_letter

    def word_at(self, ids: Ints, begins: Bools, position: int) -> str:
        """Return the whole word that contains the token at `position` of a row; `begins` is the result of `begin`."""
        start = position - int(np.argmax(begins[position::-1]))  # the nearest beginning, at or before the position
        later = np.flatnonzero(begins[position + 1 :])
        end = position + 1 + int(later[0]) if len(later) else len(ids)
        key = tuple(ids[start:end].tolist())
        if key not in self._words:
            tokens = self.tokenizer.convert_ids_to_tokens(list(key))
            self._words[key] = self.tokenizer.convert_tokens_to_string(tokens).removeprefix(_CONTINUES).strip()
        return self._words[key]
