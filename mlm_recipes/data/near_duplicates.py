"""Near duplicates among paragraphs: MinHash finds the candidates, their exact Jaccard similarity decides."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

#: Thai to Tibetan, Burmese, Khmer, kana, Chinese characters: scripts that set no space between words.
UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
UNSPACED += "\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

# Two paragraphs are compared if all rows of one band agree. At a similarity of 0.8 that misses 1 pair in 20,000, at 0.7
# 1 in 100; of pairs at 0.5 it compares half, of pairs at 0.2 one in 125. A band is kept as 4 bytes: as every candidate
# is checked, chance agreements cost a comparison and change nothing.
BANDS, ROWS = 25, 5
SLOTS = 128  # rensa is faster at powers of two; the last three are left
LOWEST_THRESHOLD = 0.7
BATCH = 1000
REMEMBERED = 20_000  # candidates whose shingles are kept for the next band, about a kilobyte each


def near_duplicate_groups(texts: Sequence[str], *, threshold: float = 0.8, words: int = 5) -> npt.NDArray[np.int64]:
    """Return, for each paragraph, the number of the first one that it is a copy or near duplicate of, or its own.

    Args:
        texts: the paragraphs: a list, or a column of a data set, of which 1,000 are in memory at a time.
        threshold: the Jaccard similarity of two paragraphs' shingles from which they are near duplicates, 0.7 to 1.
        words: how many words in a row make a shingle.

    Returns: int64, shape `(paragraphs,)`. Nearness is passed on: if A is near B and B near C, all three are one group.

    Words are what white space parts, without regard to case; in scripts that set no space between words, such as
    Chinese, Japanese and Thai, each character counts as a word. A paragraph of fewer than `words` words is one shingle,
    so it has copies but no near duplicates. One word changed in the midst of a paragraph changes 5 of its shingles: at
    the default, paragraphs of 49 words and more are still near duplicates then.

    The result depends on the texts alone: not on the process, the number of threads, or, but for the numbers, on their
    order. Memory beyond the texts: some 150 bytes a paragraph. Time: that of reading, and where thousands of
    paragraphs are much alike without being near duplicates, that of comparing each with each.

    Raises: ValueError for a threshold or a number of words outside what is accepted.

    Source: Broder 1997, "On the resemblance and containment of documents"; five words and 0.8 as in Lee et al. 2022,
    arXiv:2107.06499, "Deduplicating Training Data Makes Language Models Better".

    >>> texts = ["And so on.", "Let us begin.", "and  so ON."]
    >>> near_duplicate_groups(texts)
    array([0, 1, 0])
    >>> kept = near_duplicate_groups(texts) == np.arange(len(texts))
    >>> kept.tolist()
    [True, True, False]
    """
    if not LOWEST_THRESHOLD <= threshold <= 1:
        raise ValueError(
            f"threshold: received {threshold}. Accepted: {LOWEST_THRESHOLD} to 1, a Jaccard similarity; too many pairs "
            "below that would not be found. Leave it out for 0.8."
        )
    if words < 1:
        raise ValueError(f"words: received {words}. Accepted: 1 or more. Leave it out for 5.")

    @functools.lru_cache(maxsize=REMEMBERED)
    def shingles_of(row: int) -> npt.NDArray[np.uint64]:
        (hashes,) = RMinHash.hash_token_sets([_shingles(_words(texts[row]), words)])
        return np.unique(np.array(hashes, np.uint64))

    digests, bands = _sketch(texts, words)
    _, firsts, copy_of = np.unique(digests, return_index=True, return_inverse=True)
    groups = firsts[copy_of]  # each points to a row at or before it, which may point on
    firsts.sort()
    for band in bands:
        for bucket in _buckets(band[firsts]):
            rows = firsts[bucket]
            roots = _follow(groups, rows)
            if (roots != roots[0]).any():
                groups[roots] = _joined(roots, [shingles_of(int(row)) for row in rows], threshold)
    return _follow(groups, groups)


def training_rows_near(groups: npt.NDArray[np.int64], held_out: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which rows, among those not held out, are copies or near duplicates of one that is: not to be trained on.

    Args:
        groups: from `near_duplicate_groups`, shape `(paragraphs,)`.
        held_out: which paragraphs are set aside for validation, shape `(paragraphs,)`.

    >>> training_rows_near(np.array([0, 1, 0, 1, 4]), np.array([True, False, False, False, False])).tolist()
    [False, False, True, False, False]
    """
    return ~held_out & np.isin(groups, groups[held_out])


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _shingles(found: list[str], words: int) -> list[str]:
    runs = zip(*(found[start:] for start in range(words)), strict=False)  # ends with the shortest
    return [" ".join(run) for run in runs] or [" ".join(found)]


def _sketch(texts: Sequence[str], words: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Read all texts once: a digest of each, shape `(paragraphs,)`, and its bands, shape `(BANDS, paragraphs)`."""
    digests = np.empty(len(texts), np.int64)
    bands = np.empty((BANDS, len(texts)), np.uint32)
    # Odd constants (powers of the golden ratio's fraction) and the upper half of the sum: multilinear hashing.
    weights = np.cumprod(np.full(ROWS, 0x9E3779B97F4A7C15, np.uint64))
    for start in range(0, len(texts), BATCH):
        batch = [_words(text) for text in texts[start : start + BATCH]]
        rows = slice(start, start + len(batch))
        copies = b"".join(hashlib.blake2b(" ".join(found).encode(), digest_size=8).digest() for found in batch)
        digests[rows] = np.frombuffer(copies, np.int64)
        minima = RMinHash.digest_matrix_from_token_sets([_shingles(found, words) for found in batch], SLOTS, 0)
        of_band = np.array(minima.to_rows(), np.uint64)[:, : BANDS * ROWS].reshape(-1, BANDS, ROWS)
        bands[:, rows] = ((of_band * weights).sum(2) >> np.uint64(32)).T
    return digests, bands


def _buckets(band: npt.NDArray[np.uint32]) -> list[npt.NDArray[np.int64]]:
    """Return the places of equal values, for each value that occurs more than once."""
    order = np.argsort(band, kind="stable")
    borders = np.flatnonzero(np.diff(band[order])) + 1
    starts, ends = np.append(0, borders), np.append(borders, len(band))
    several = ends - starts > 1
    return [order[start:end] for start, end in zip(starts[several], ends[several], strict=True)]


def _follow(groups: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows that these lead to: those that point to themselves."""
    while ((further := groups[rows]) != rows).any():
        rows = further
    return rows


def _joined(
    labels: npt.NDArray[np.int64], shingles: list[npt.NDArray[np.uint64]], threshold: float
) -> npt.NDArray[np.int64]:
    """Return the labels after those of any two near rows have become one, the lower.

    Every row is compared with all others at once, unless it is of the commonest label: pairs of one label need no
    comparing, and of two labels it is enough that one's rows are compared. So many near copies take one comparison.
    """
    sizes = np.array([len(held) for held in shingles])
    starts = np.cumsum(sizes) - sizes
    distinct, held = np.unique(np.concatenate(shingles), return_inverse=True)
    to_compare = np.ones(len(labels), bool)
    values, counts = np.unique(labels, return_counts=True)
    while (rows := np.flatnonzero(to_compare & (labels != values[counts.argmax()]))).size:
        row = rows[0]
        to_compare[row] = False
        among = np.zeros(len(distinct), np.int32)
        among[held[starts[row] : starts[row] + sizes[row]]] = 1
        shared = np.add.reduceat(among[held], starts)
        touched = np.unique(labels[shared / (sizes + sizes[row] - shared) >= threshold])
        if len(touched) > 1:
            labels = np.where(np.isin(labels, touched), touched[0], labels)
            values, counts = np.unique(labels, return_counts=True)
    return labels
