from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.similarity import search_measures as module
from mlm_recipes.evaluation.similarity.search_measures import first_documents, ndcg, recall

GENERATOR = np.random.default_rng(0)
QUERIES, DOCUMENTS = GENERATOR.normal(size=(7, 5)), GENERATOR.normal(size=(40, 5))


def test_the_ten_most_similar_documents_in_order(monkeypatch):
    expected = np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)[:, :10]
    assert np.array(first_documents(QUERIES, DOCUMENTS, [None] * 7)).tolist() == expected.tolist()
    monkeypatch.setattr(module, "_BLOCK", 100)  # two queries at a time
    assert np.array(first_documents(QUERIES, DOCUMENTS, [None] * 7)).tolist() == expected.tolist()


def test_a_skipped_document_makes_room_for_the_next():
    best = np.argsort(-(QUERIES[0] @ DOCUMENTS.T))
    (found,) = first_documents(QUERIES[:1], DOCUMENTS, [int(best[2])])
    assert found.tolist() == [*best[:2], *best[3:11]]


def test_equal_documents_keep_their_order():
    same = np.ones((30, 2))
    assert first_documents(np.ones((1, 2)), same, [None])[0].tolist() == list(range(10))


def test_ndcg_by_hand():
    # Found: relevance 0, 2, 0, 1; the best order would be 3, 2, 1.
    found = ndcg([np.array([9, 4, 8, 5])], [{4: 2.0, 5: 1.0, 6: 3.0}])
    expected = (2 / np.log2(3) + 1 / np.log2(5)) / (3 + 2 / np.log2(3) + 1 / 2)
    assert found.tolist() == pytest.approx([expected])
    assert ndcg([np.array([6, 4, 5])], [{4: 2.0, 5: 1.0, 6: 3.0}]).tolist() == pytest.approx([1])


def test_ndcg_of_more_relevant_documents_than_are_ranked_can_be_one():
    judged = dict.fromkeys(range(15), 1.0)
    assert ndcg([np.arange(10)], [judged]).tolist() == pytest.approx([1])
    assert recall([np.arange(10)], [judged]).tolist() == pytest.approx([10 / 15])
