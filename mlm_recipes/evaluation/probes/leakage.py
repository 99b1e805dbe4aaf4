"""Looks for the texts of a probe in the training text: equal ones, and ones of which most stands there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...data.near_duplicates import WORD
from ..forward_passes import with_bar

#: How many consecutive words are compared, and the share of a text's that makes it a near duplicate.
WORDS, SHARE = 5, 0.8

Flags = npt.NDArray[np.bool_]


def leaked(texts: Sequence[str], training: Iterable[str]) -> tuple[Flags, Flags]:
    """Return which texts equal a training paragraph, and which others stand in the training text nearly as they are.

    Args:
        texts: those of the probe.
        training: the paragraphs that are trained on; they are read once, and not kept.

    Case and white space are ignored. A text stands in the training text if four fifths of its runs of five words do,
    in whichever paragraphs: so a sentence out of a long paragraph is found, which has a low Jaccard similarity with it
    (containment: Broder 1997, "On the resemblance and containment of documents"). Two paragraphs with a Jaccard
    similarity of 0.8 or more are always found. A text of fewer than five words can only be equal. Words are those of
    `mlm_recipes.data.near_duplicates`. Time: about a second per million words.

    Returns: two boolean arrays, shape `(texts,)`.

    >>> exact, near = leaked(["And so on.", "a b c d e f"], ["and so  ON.", "He said: a b c d e f, and left."])
    >>> exact.tolist(), near.tolist()
    ([True, False], [False, False])
    >>> leaked(["it is not things that trouble us"], ["Say: it is not things that trouble us ."])[1].tolist()
    [True]
    """
    words = [tuple(WORD.findall(text.casefold())) for text in texts]
    runs = [set(_runs(found)) for found in words]
    wanted = set().union(*runs)
    whole = set(words)
    equal: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    for paragraph in with_bar(training, "Looking for the probe's texts", "paragraph"):
        found = tuple(WORD.findall(paragraph.casefold()))
        if found in whole:
            equal.add(found)
        seen |= wanted.intersection(_runs(found))
    exact = np.array([found in equal for found in words], dtype=bool)
    shares = np.array([len(mine & seen) / len(mine) if mine else 0.0 for mine in runs])
    return exact, (shares >= SHARE) & ~exact


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(WORDS)), strict=False)
