"""Finds the words of tokens, from a table over the vocabulary: which tokens begin a word, and which go on with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .random_keys import Bools, Ints
from .split_characters import SplitCharacters
from .vocabulary import number_of_ids, special_token_ids
from .word_flags import BEGINS, BLANK, ENDS, JOINS, OPEN, OWN, SPLIT, Flags, flags_of
from .word_marks import WordMarks, word_marks

#: How SentencePiece writes a byte of a character that its vocabulary lacks.
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

#: The character of each byte in a byte-level vocabulary (GPT-2; Radford et al. 2019): printable ones are themselves,
#: and the others follow from 256 on.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTES = {chr(byte): byte for byte in _PRINTABLE}
_BYTES |= {chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)}


class WordBoundaries:
    """The borders of words in rows of a tokenizer's ids; `word_boundaries` makes one and keeps it.

    A word is what is between white space. Each punctuation mark is a word of its own, as BERT splits text (Devlin et
    al. 2019), and so is each token that begins with a character of a script without spaces (Chinese, Japanese, Thai,
    Lao, Burmese, Khmer), since only a segmenter knows more. The bytes of one character are one word, an accent belongs
    to its letter, and white space to the word after it. A token is never divided: `.com` is one word with what
    continues it. Special tokens are words of their own, and an unknown token is taken for a letter.

    Raises: ValueError if the tokens do not tell where a word begins.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be, or not to be,"] * 2, vocab_size=200)
    >>> ids = np.array(tokenizer("not toe, to")["input_ids"])
    >>> tokenizer.convert_ids_to_tokens(ids.tolist())
    ['[CLS]', 'not', 'to', '##e', ',', 'to', '[SEP]']
    >>> word_boundaries(tokenizer).words(ids, np.array([7])).tolist()
    [0, 1, 2, 2, 3, 4, 5]
    """

    def __init__(self, tokenizer: Any) -> None:
        self._flags: Flags = np.full(number_of_ids(tokenizer), BEGINS | ENDS, dtype=np.uint8)  # as for special tokens
        split: dict[int, bytes] = {}
        for index, content, flags in _ordinary_tokens(tokenizer, word_marks(tokenizer)):
            flags |= flags_of(content)
            self._flags[index] = flags
            if flags & SPLIT:
                split[index] = content
        self._split = SplitCharacters(split)

    def begins(self, ids: Ints, lengths: Ints) -> Bools:
        """Tell which tokens begin a word, shape `(tokens,)`; `ids` are sequences one after the other, of `lengths`.

        Raises: ValueError for an id that the tokenizer does not have.
        """
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self._flags):
            raise ValueError(
                f"input_ids: received {int(ids.max())}, and the tokenizer's largest id is {len(self._flags) - 1}. "
                "Accepted: ids of this tokenizer. Pass the tokenizer that made the rows."
            )
        flags = self._flags[ids]
        starts = (np.cumsum(lengths) - lengths)[lengths > 0]
        split = np.flatnonzero(flags & SPLIT)
        if len(split):
            flags[split] |= self._split.flags(ids[split], split, starts)
        if (flags & OPEN).any():
            closed = np.maximum.accumulate(np.where(flags & OPEN, 0, np.arange(len(flags))))
            flags |= flags[closed] & np.where(flags & OPEN, np.uint8(ENDS), np.uint8(0))
        before = np.zeros_like(flags)
        before[1:] = flags[:-1]
        begins: Bools = ((flags & OWN) | (before & ENDS)) != 0
        begins &= ((before & BLANK) | (flags & JOINS)) == 0
        begins |= (flags & BEGINS) != 0
        begins[starts] = True
        return begins

    def words(self, ids: Ints, lengths: Ints) -> Ints:
        """Return the number of each token's word, shape `(tokens,)`, rising from 0 over all sequences."""
        return np.cumsum(self.begins(ids, lengths)) - 1


def _ordinary_tokens(tokenizer: Any, marks: WordMarks) -> Iterator[tuple[int, bytes, int]]:
    """Yield the id, the text and the marked borders of each token that is not special, and of the unknown token."""
    special = set(special_token_ids(tokenizer).tolist())
    added = {index: token for index, token in tokenizer.added_tokens_decoder.items() if not token.special}
    vocabulary = tokenizer.get_vocab()
    bytes_of_characters = "<0x0A>" in vocabulary
    for token, index in vocabulary.items():
        if index in added:  # found in the text before anything else: it has no marks
            apart = marks.prefix or not marks.space
            begins, ends = apart or added[index].lstrip, apart or added[index].rstrip
            yield index, token.encode(), (BEGINS if begins else 0) | (ENDS if ends else 0)
        elif index not in special:
            byte = _BYTE.fullmatch(token) if bytes_of_characters else None
            content = bytes([int(byte[1], 16)]) if byte else _text_of(token, marks)
            yield index, content, _marked(token, marks)
    names = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id", "mask_token_id")
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown not in [getattr(tokenizer, name, None) for name in names]:
        yield unknown, b"x", _marked("x", marks)


def _marked(token: str, marks: WordMarks) -> int:
    """Return the borders that a token marks besides white space.

    >>> [_marked(token, WordMarks(prefix="##")) for token in ("to", "##e", "##")]
    [1, 0, 1]
    """
    continues = marks.prefix and token.startswith(marks.prefix) and token != marks.prefix
    begins = marks.each or (marks.prefix and not continues)
    ends = (marks.suffix and token.endswith(marks.suffix)) or (marks.joint and not token.endswith(marks.joint))
    return (BEGINS if begins else 0) | (ENDS if ends else 0)


def _text_of(token: str, marks: WordMarks) -> bytes:
    """Return the text that a token stands for, in UTF-8, with spaces in place of marks of white space.

    >>> _text_of("##é", WordMarks(prefix="##")).decode()
    'é'
    >>> _text_of("ĠÃ©", WordMarks(space="Ġ", byte_level=True)).decode()
    ' é'
    """
    if marks.prefix and token != marks.prefix:
        token = token.removeprefix(marks.prefix)
    for mark in (marks.suffix, marks.joint):
        if mark and token != mark:
            token = token.removesuffix(mark)
    if marks.byte_level and all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    return (token.replace(marks.space, " ") if marks.space else token).encode(errors="replace")


_known: WeakKeyDictionary[Any, tuple[int, WordBoundaries]] = WeakKeyDictionary()


def word_boundaries(tokenizer: Any) -> WordBoundaries:
    """Return a tokenizer's WordBoundaries, the same object until its vocabulary grows.

    Raises: ValueError if its tokens do not tell where a word begins.
    """
    size = len(tokenizer.get_vocab())
    known = _known.get(tokenizer)
    if known is None or known[0] != size:
        _known[tokenizer] = known = size, WordBoundaries(tokenizer)
    return known[1]
