"""Which paragraphs of a text are whose share, so that several processes prepare it without asking one another."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from .corpus_files import choose, texts_of
from .corpus_name import TextSource
from .paragraphs import StreamedParagraphs

#: The number of neighbouring paragraphs that are dealt together: many, since packed rows join neighbours.
DEALT_TOGETHER = 1_000

T = TypeVar("T")


class DealtText:
    """A text in shares, which are numbered from 1. Each paragraph is in one of them, in the order of the text.

    If the text has at least as many files as there are shares, whole files are dealt, the largest first and each to the
    share with the fewest bytes so far, and a process opens only its own. Otherwise a thousand paragraphs at a time are
    dealt in turn, and each process reads the whole text, which takes a small part of the time of tokenizing it.

    >>> from mlm_recipes.data.corpus_name import resolve
    >>> text = DealtText(resolve("meditations"), shares=2)
    >>> text.dealt, [sum(1 for paragraph in text.share(number)) for number in (1, 2)]
    ('paragraphs', [540, 0])
    """

    def __init__(self, source: TextSource, shares: int) -> None:
        self.source, self.shares = source, shares
        self.whole = StreamedParagraphs(source)
        self.sizes = [path.stat().st_size for path, _ in source.files]
        self.dealt: Literal["whole", "files", "paragraphs"] = "paragraphs"
        if shares == 1:
            self.dealt = "whole"
        elif len(source.files) >= shares:
            self.dealt = "files"
            self._files = dealt_by_size(self.sizes, shares)

    def share(self, number: int, position: Callable[[int], Any] = lambda done: None) -> Iterator[str]:
        """Yield a share's paragraphs; `position` is called with the number of bytes read so far, if they are files."""
        if self.source.kind == "hub":
            paragraphs: Iterable[str] = self.whole()
            return dealt_in_turn(paragraphs, number, self.shares, DEALT_TOGETHER)
        mine = self._files[number - 1] if self.dealt == "files" else range(len(self.sizes))
        begins = [0, *itertools.accumulate(self.sizes[file] for file in mine)]
        chosen = choose(self.source.files, self.source.reading, self.source.path)
        paragraphs = texts_of(
            tuple(self.source.files[file] for file in mine),
            self.source.reading,
            self.source.path,
            Counter(),
            position=lambda file, done: position(begins[file] + done),
            chosen=(chosen,),
        )
        if self.dealt != "paragraphs":
            return iter(paragraphs)
        return dealt_in_turn(paragraphs, number, self.shares, DEALT_TOGETHER)

    def bytes_of(self, number: int) -> int:
        """Return how many bytes a share's process reads; 0 for a data set of the hub."""
        return sum(self.sizes[file] for file in self._files[number - 1]) if self.dealt == "files" else sum(self.sizes)

    def files_sha256(self) -> str:
        """Return a hash of the names and sizes of the text's files, which shows that all processes have the same."""
        named = [[path.name, size] for (path, _), size in zip(self.source.files, self.sizes, strict=True)]
        return hashlib.sha256(json.dumps([named, vars(self.source.version)]).encode()).hexdigest()


def dealt_by_size(sizes: Sequence[int], shares: int) -> list[list[int]]:
    """Return the numbers of the files in each share: the largest file first, each to the share with the fewest bytes.

    This rule (longest processing time first; Graham 1969, https://doi.org/10.1137/0117039) makes the largest share at
    most a third larger than the best possible.

    >>> dealt_by_size([5, 9, 4, 8], shares=2)
    [[1, 2], [0, 3]]
    """
    dealt: list[list[int]] = [[] for _ in range(shares)]
    filled = [0] * shares
    for file in sorted(range(len(sizes)), key=lambda file: (-sizes[file], file)):
        share = min(range(shares), key=lambda share: (filled[share], len(dealt[share]), share))
        dealt[share].append(file)
        filled[share] += sizes[file]
    return [sorted(files) for files in dealt]


def dealt_in_turn(items: Iterable[T], number: int, shares: int, together: int) -> Iterator[T]:
    """Yield the items of one of some shares, which are dealt `together` at a time; shares are counted from 1.

    >>> list(dealt_in_turn("abcdefg", number=2, shares=2, together=2))
    ['c', 'd', 'g']
    """
    for place, item in enumerate(items):
        if place // together % shares == number - 1:
            yield item
