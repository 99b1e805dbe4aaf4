"""Finds near duplicates among paragraphs: MinHash finds candidates, and their exact Jaccard similarity decides."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

#: Thai to Tibetan, Burmese, Khmer, kana, Chinese characters: scripts without spaces between words.
UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
UNSPACED += "\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

# Two paragraphs are compared if all rows of one band agree. This misses 1 pair in 20,000 at a similarity of 0.8, and 1
# in 100 at 0.7. It compares half of the pairs at 0.5, and one in 125 at 0.2. A band is stored as 4 bytes: an
# accidental agreement costs a comparison, and does not change the result.
BANDS, ROWS = 25, 5
SLOTS = 128  # rensa is faster with powers of two; the last three are not used
LOWEST_THRESHOLD = 0.7
BATCH = 1000
REMEMBERED = 20_000  # candidates whose shingles are cached for the next band, about a kilobyte each


def near_duplicate_groups(texts: Sequence[str], *, threshold: float = 0.8, words: int = 5) -> npt.NDArray[np.int64]:
    """Return, for each paragraph, the number of the first one that it duplicates exactly or nearly, or its own number.

    Args:
        texts: the paragraphs: a list, or a column of a data set, of which 1,000 are in memory at a time.
        threshold: two paragraphs are near duplicates if the Jaccard similarity of their shingles is at least this; 0.7
            to 1.
        words: how many consecutive words are a shingle.

    Returns: int64, shape `(paragraphs,)`. The relation is transitive: if A is near B and B is near C, all three are in
    one group.

    Words are separated by white space, and case is ignored. In scripts without spaces between words, such as Chinese,
    Japanese and Thai, each character counts as a word. A paragraph of fewer than `words` words is one shingle, so it
    has exact duplicates but no near ones. Changing one word in the middle of a paragraph changes 5 of its shingles; by
    default, a paragraph of 49 words or more then is still a near duplicate.

    The result depends only on the texts, not on the process or the number of threads; the groups do not depend on the
    order of the texts. Memory, besides the texts: about 150 bytes per paragraph. Time: about that of reading, or more
    if thousands of paragraphs are similar but not near duplicates, since then all pairs are compared.

    Raises: ValueError for a threshold or a number of words that is out of range.

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
            f"threshold: received {threshold}. Accepted: {LOWEST_THRESHOLD} to 1, a Jaccard similarity; below "
            "that, too many pairs would be missed. Leave it out for 0.8."
        )
    if words < 1:
        raise ValueError(f"words: received {words}. Accepted: 1 or more. Leave it out for 5.")

    @functools.lru_cache(maxsize=REMEMBERED)
    def shingles_of(row: int) -> npt.NDArray[np.uint64]:
        (hashes,) = RMinHash.hash_token_sets([_shingles(_words(texts[row]), words)])
        return np.unique(np.array(hashes, np.uint64))

    digests, bands = _sketch(texts, words)
    _, firsts, copy_of = np.unique(digests, return_index=True, return_inverse=True)
    groups = firsts[copy_of]  # each row points to itself or an earlier row, which may point further
    firsts.sort()
    for band in bands:
        for bucket in _buckets(band[firsts]):
            rows = firsts[bucket]
            roots = _follow(groups, rows)
            if (roots != roots[0]).any():
                groups[roots] = _joined(roots, [shingles_of(int(row)) for row in rows], threshold)
    return _follow(groups, groups)


def training_rows_near(groups: npt.NDArray[np.int64], held_out: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which rows to leave out of training, because they duplicate a held-out row exactly or nearly.

    Args:
        groups: from `near_duplicate_groups`, shape `(paragraphs,)`.
        held_out: which paragraphs are held out, shape `(paragraphs,)`.

    >>> training_rows_near(np.array([0, 1, 0, 1, 4]), np.array([True, False, False, False, False])).tolist()
    [False, False, True, False, False]
    """
    return ~held_out & np.isin(groups, groups[held_out])


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _shingles(found: list[str], words: int) -> list[str]:
    runs = zip(*(found[start:] for start in range(words)), strict=False)  # until the shortest ends
    return [" ".join(run) for run in runs] or [" ".join(found)]


def _sketch(texts: Sequence[str], words: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Read all texts once; return digests, shape `(paragraphs,)`, and bands, shape `(BANDS, paragraphs)`."""
    digests = np.empty(len(texts), np.int64)
    bands = np.empty((BANDS, len(texts)), np.uint32)
    # Multilinear hashing: odd constants (powers of the golden ratio's fraction), and the upper half of the sum.
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
    """Return, for each value that occurs more than once, where it occurs."""
    order = np.argsort(band, kind="stable")
    borders = np.flatnonzero(np.diff(band[order])) + 1
    starts, ends = np.append(0, borders), np.append(borders, len(band))
    several = ends - starts > 1
    return [order[start:end] for start, end in zip(starts[several], ends[several], strict=True)]


def _follow(groups: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Follow the pointers of some rows to their ends: rows that point to themselves."""
    while ((further := groups[rows]) != rows).any():
        rows = further
    return rows


def _joined(
    labels: npt.NDArray[np.int64], shingles: list[npt.NDArray[np.uint64]], threshold: float
) -> npt.NDArray[np.int64]:
    """Return the labels after merging those of near rows; the lower label is kept.

    A row is compared with all others at once. Rows with the most common label are skipped: rows with the same label
    need no comparison, and for two labels it is enough to compare the rows of one. Therefore, many
    near duplicates of one paragraph need only one comparison.
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
