"""Measures of a search: nDCG@10 and recall@10 of each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...masking.random_keys import Floats, Ints

#: How many documents are ranked.
DEPTH = 10

#: So many similarities are computed at a time.
_BLOCK = 2**24


def first_documents(queries: Floats, documents: Floats, skipped: Sequence[int | None]) -> list[Ints]:
    """Return the indices of the ten documents most similar to each query, the most similar first.

    Args:
        queries, documents: vectors, whose products are the similarities, shapes `(queries, n)` and `(documents, n)`.
        skipped: for each query a document that is not ranked, or None.

    Equal documents are ranked in their order.

    >>> first_documents(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]), [1])[0].tolist()
    [2, 0]
    """
    found: list[Ints] = []
    size = max(1, _BLOCK // len(documents))
    for begin in range(0, len(queries), size):
        similar = queries[begin : begin + size] @ documents.T
        for number, row in enumerate(similar, start=begin):
            own, kept = skipped[number], len(documents)
            if own is not None:
                row[own], kept = -np.inf, kept - 1
            depth = min(DEPTH, kept)
            least = np.partition(row, len(row) - depth)[len(row) - depth]
            candidates = np.flatnonzero(row >= least)
            found.append(candidates[np.argsort(-row[candidates], kind="stable")][:depth])
    return found


def ndcg(ranked: Sequence[Ints], relevant: Sequence[Mapping[int, float]]) -> Floats:
    """Return each query's normalised discounted cumulative gain at 10, shape `(queries,)`.

    The document at rank r has the gain `relevance / log2(r + 1)`, and the sum is divided by that of the best order
    (Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418; linear, as in trec_eval and BEIR).

    >>> ndcg([np.array([4, 7])], [{7: 1.0}]).round(4).tolist()
    [0.6309]
    """
    discount = 1 / np.log2(np.arange(2, DEPTH + 2))
    return np.array(
        [
            _gain([judged.get(int(document), 0.0) for document in found], discount)
            / _gain(sorted(judged.values(), reverse=True)[:DEPTH], discount)
            for found, judged in zip(ranked, relevant, strict=True)
        ]
    )


def recall(ranked: Sequence[Ints], relevant: Sequence[Mapping[int, float]]) -> Floats:
    """Return for each query the share of its relevant documents among the first ten, shape `(queries,)`.

    >>> recall([np.array([4, 7])], [{7: 1.0, 8: 2.0}]).tolist()
    [0.5]
    """
    return np.array(
        [
            sum(int(document) in judged for document in found) / len(judged)
            for found, judged in zip(ranked, relevant, strict=True)
        ]
    )


def _gain(scores: Sequence[float], discount: Floats) -> float:
    return float(np.asarray(scores, dtype=np.float64) @ discount[: len(scores)])
