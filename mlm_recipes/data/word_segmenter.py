"""Finds the words of Chinese text, which are not separated by spaces, and numbers them for whole-word masking."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..masking.random_keys import Bools
from ..sources.missing_packages import is_installed, needs

#: Divides a text into words; joined, they are the text.
Segment = Callable[[str], Sequence[str]]

#: How many texts are tokenized together.
_TEXTS = 64

#: The blocks of ideographs, as for BERT's tokenizer (Devlin et al. 2019), with their iteration mark and zero.
_HAN = (
    *((0x3005, 0x3005), (0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0x20000, 0x2FA1F), (0x30000, 0x323AF)),
)

# What a character is: a letter or digit, white space, punctuation or a symbol, a mark on the one before, an ideograph.
_LETTER, _SPACE, _PUNCTUATION, _MARK, _IDEOGRAPH = range(5)


def _jieba(text: str) -> list[str]:
    import rjieba

    return rjieba.cut(text)


class Segmenter(NamedTuple):
    """A way to divide text into words, and the package that it needs."""

    segment: Segment
    package: str


SEGMENTERS = {"jieba": Segmenter(_jieba, "rjieba")}


def check_segmenter(name: Any) -> None:
    """Raise ValueError for a name that no word segmenter has; "none" is accepted too.

    >>> check_segmenter("none")
    """
    if name != "none" and name not in SEGMENTERS:
        raise ValueError(
            f"word_segmenter: received {name!r}. Accepted: none, {', '.join(SEGMENTERS)}. Leave it out unless the text "
            "is Chinese."
        )


class WordNumbers:
    """Number the words that a text's tokens belong to.

    Args:
        tokenizer: one of transformers', written in Rust, since it must say where its tokens are in the text.
        name: a name in SEGMENTERS.

    Raises: MissingPackageError, an ImportError and a ValueError, if the segmenter is not installed; ValueError for a
    tokenizer written in Python.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        check_segmenter(name)
        self.tokenizer = tokenizer
        self.segment, package = SEGMENTERS[name]
        if not is_installed(package):
            raise needs(f"word_segmenter: {name!r}", [package], "Accepted: none, which finds words by the tokenizer.")
        if not tokenizer.is_fast:
            raise ValueError(
                f"word_segmenter: received {name!r} with {type(tokenizer).__name__}, which does not say where in the "
                "text its tokens are. Accepted: a tokenizer written in Rust (tokenizer.is_fast). Leave it out."
            )
        #: What determines the words besides the text and its tokens, for keys of caches.
        self.identity = [name, version(package)]

    def __call__(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Return the words of each text's tokens, without special tokens, as `words_of_tokens`."""
        found: list[npt.NDArray[np.int32]] = []
        for first in range(0, len(texts), _TEXTS):
            part = list(texts[first : first + _TEXTS])
            encoded = self.tokenizer(
                part, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
            )
            for text, offsets in zip(part, encoded["offset_mapping"], strict=True):
                found.append(words_of_tokens(text, (start for start, _ in offsets), self.segment))
        return found


def words_of_tokens(text: str, starts: Iterable[int], segment: Segment) -> npt.NDArray[np.int32]:
    """Return the number of the word that each token belongs to, int32, shape `(tokens,)`, rising from 0.

    Words with ideographs are those of the segmenter. All other text consists of words that are separated by white
    space and of punctuation, of which each character is a word. A token belongs to the word of its first character; if
    that is white space, to the next word.

    Args:
        text: the text.
        starts: the number of the character at which each token starts.
        segment: divides a text into words.

    >>> words = ["读", "BERT-base ", "论文", "。"]
    >>> words_of_tokens("读BERT-base 论文。", [0, 1, 3, 5, 6, 11, 12, 13], lambda text: words).tolist()
    [0, 1, 1, 2, 3, 4, 4, 5]
    """
    begins, space = _begins_word(text, segment)
    numbers = np.append(np.cumsum(begins) - 1, begins.sum())  # the last for white space at the end of the text
    length = len(text)
    # The next character that is not white space, of each, (characters + 1,)
    places = np.append(np.where(space, length, np.arange(length)), length)
    following = np.minimum.accumulate(places[::-1])[::-1]
    found = numbers[following[np.fromiter(starts, dtype=np.int64)]]
    return np.maximum.accumulate(found).astype(np.int32)


def _begins_word(text: str, segment: Segment) -> tuple[Bools, Bools]:
    """Return which characters begin a word, and which are white space, both of shape `(characters,)`."""
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    different, place = np.unique(characters, return_inverse=True)
    kinds = np.array([_kind(code) for code in different.tolist()], dtype=np.int8)[place]
    space, mark = kinds == _SPACE, kinds == _MARK
    pieces = segment(text)
    lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    assert lengths.sum() == len(text), f"the segmenter has changed a text: {text[:100]!r}"
    piece = np.repeat(np.arange(len(pieces)), lengths)  # (characters,)
    segmented = np.bincount(piece, weights=kinds == _IDEOGRAPH, minlength=len(pieces))[piece] > 0
    # A mark is what the character before it is.
    base = np.maximum.accumulate(np.where(mark, 0, np.arange(len(text))))
    punctuation, segmented = (kinds == _PUNCTUATION)[base] & ~segmented[base], segmented[base]
    ended = _after(punctuation, False) | (_after(segmented, False) & ~segmented)
    new_piece = np.diff(piece, prepend=-1) > 0
    begins = np.where(segmented, new_piece, punctuation | ended) & ~mark
    return (begins | _after(space, True)) & ~space, space


def _after(which: Bools, first: bool) -> Bools:
    """Return for each character whether the one before it is one of these."""
    return np.concatenate([[first], which[:-1]]) if len(which) else which


@cache
def _kind(code: int) -> int:
    character = chr(code)
    category = unicodedata.category(character)
    if character.isspace():
        return _SPACE
    if any(first <= code <= last for first, last in _HAN):
        return _IDEOGRAPH
    if category[0] == "M" or category == "Cf":
        return _MARK
    return _PUNCTUATION if category[0] in "PS" else _LETTER


def word_column(parts: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[np.int32]]:
    """Return the numbers of several texts' words as if they were one text.

    >>> [part.tolist() for part in word_column([np.array([0, 0, 1]), np.array([], np.int64), np.array([0, 1])])]
    [[0, 0, 1], [], [2, 3]]
    """
    found, first = [], 0
    for part in parts:
        found.append((part + first).astype(np.int32))
        first += int(part[-1]) + 1 if len(part) else 0
    return found
