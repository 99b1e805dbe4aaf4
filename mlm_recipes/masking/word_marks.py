"""How a tokenizer marks words, found by asking it: what its tokens look like where a word begins, goes on or ends."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, NamedTuple

from .vocabulary import special_token_ids

#: What is tokenized to see what becomes of a space; its letters are also those of nucleotides and amino acids.
_WORD = "at"

#: How many tokens of the vocabulary are tried, to see whether two of them need anything between them.
_TRIED = 50


class WordMarks(NamedTuple):
    """The marks of a tokenizer; each is empty if it does not use it.

    Attributes:
        prefix: a token with it continues a word, and any other begins one (WordPiece's `##`).
        space: stands for white space in a token (`Ġ` of byte-level BPE, `▁` of SentencePiece, or a space itself).
        suffix: a token with it ends a word (`</w>` of BPE as in GPT).
        joint: a token with it continues in the next one, and any other ends a word (`@@` of subword-nmt).
        each: every token is a word.
        byte_level: the tokens are bytes, each written as a printable character.
    """

    prefix: str = ""
    space: str = ""
    suffix: str = ""
    joint: str = ""
    each: bool = False
    byte_level: bool = False


def word_marks(tokenizer: Any) -> WordMarks:
    """Return how a tokenizer marks words.

    A tokenizer of the tokenizers library is asked what its normalizer and pre-tokenizer make of a space, and its model
    for its prefix or suffix; any other, how it joins tokens to text.

    Raises: ValueError if its tokens do not tell where a word begins, as in a vocabulary of amino acids.

    >>> from mlm_recipes import train_tokenizer
    >>> word_marks(train_tokenizer(["to be or not to be"] * 2, vocab_size=200)).prefix
    '##'
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    found = _asked_by_joining(tokenizer) if backend is None else _asked_backend(backend)
    if found is None or (found.space and not any(found.space in token for token in tokenizer.get_vocab())):
        raise ValueError(
            f"masking_policy: the tokens of {type(tokenizer).__name__} do not tell where a word begins, so whole words "
            "cannot be masked. Accepted: a tokenizer that marks words, as WordPiece, byte-level BPE and SentencePiece "
            "do. For text without words, such as DNA, use masking_policy ngram, and otherwise token."
        )
    return found


def _asked_backend(backend: Any) -> WordMarks | None:
    """Ask a tokenizer of the tokenizers library."""

    def pieces(text: str) -> list[str]:
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is None:
            return [text]
        return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]

    between = re.split(_WORD, "".join(pieces(f"{_WORD} {_WORD}")), flags=re.IGNORECASE)
    if len(between) != 3:  # the words do not come through
        return None
    space = between[1]
    in_parts = len(pieces(_WORD)) > 1
    byte_level = "\u4e2d" not in "".join(pieces("\u4e2d"))
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(backend.model, "end_of_word_suffix", None) or ""
    if space and (in_parts or not prefix):
        return WordMarks(space=space, byte_level=byte_level)
    if in_parts:
        return None
    if prefix:
        return WordMarks(prefix=prefix, space=space, byte_level=byte_level)
    if suffix:
        return WordMarks(suffix=suffix, byte_level=byte_level)
    # A vocabulary of whole words: what is not in it becomes the unknown token.
    whole = type(backend.model).__name__ == "WordLevel"
    return WordMarks(each=True, byte_level=byte_level) if whole else None


def _asked_by_joining(tokenizer: Any) -> WordMarks | None:
    """Ask any other tokenizer for the text of two tokens, with each known mark."""

    def joined(*tokens: str) -> str:
        return str(tokenizer.convert_tokens_to_string(list(tokens)))

    if not hasattr(tokenizer, "convert_tokens_to_string") or not hasattr(tokenizer, "tokenize"):
        return None
    apart, together = f"{_WORD} {_WORD}", _WORD * 2
    if joined(_WORD, _WORD) == apart:
        if joined(_WORD, f"##{_WORD}") == together:
            return WordMarks(prefix="##")
        if joined(f"{_WORD}@@", _WORD) == together:
            return WordMarks(joint="@@")
        return None if _needs_no_space(tokenizer) else WordMarks(each=True)
    if joined(f"{_WORD}</w>", f"{_WORD}</w>") == apart:
        return WordMarks(suffix="</w>")
    for space in ("\u2581", "\u0120", " "):
        if joined(_WORD, f"{space}{_WORD}") == apart:
            return WordMarks(space=space, byte_level=joined("\u00c3\u00a9") == "\u00e9")
    return None


def _needs_no_space(tokenizer: Any) -> bool:
    """Tell whether two tokens can follow each other without a space, although nothing marks that they do."""
    special = set(special_token_ids(tokenizer).tolist())
    ordinary = (token for token, index in tokenizer.get_vocab().items() if index not in special and token.isalnum())
    return any(tokenizer.tokenize(token * 2) == [token, token] for token in islice(ordinary, _TRIED))
