from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.evaluation.probes.folds import deal, draw


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80), st.integers(2, 6), st.integers(0, 9))
def test_every_fold_has_its_share_of_each_label(labels, folds, seed):
    labels = np.array(labels)
    fold = deal(labels, np.arange(len(labels)), folds, seed)
    for label in np.unique(labels):
        counts = np.bincount(fold[labels == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(fold, minlength=folds)
    assert counts.max() - counts.min() <= 1


def test_near_duplicates_are_in_one_fold():
    generator = np.random.default_rng(0)
    groups = generator.integers(30, size=100)
    fold = deal(generator.integers(2, size=100), groups, 5, seed=1)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    assert len(set(fold)) == 5


def test_another_seed_deals_otherwise():
    labels, groups = np.arange(60) % 2, np.arange(60)
    assert (deal(labels, groups, 5, 1) == deal(labels, groups, 5, 1)).all()
    assert (deal(labels, groups, 5, 1) != deal(labels, groups, 5, 2)).any()


@given(st.lists(st.integers(0, 4), min_size=40, max_size=90), st.integers(10, 30), st.integers(0, 9))
def test_what_is_drawn_has_the_labels_shares(labels, size, seed):
    labels = np.array(labels)
    chosen = draw(labels, size, seed)
    assert len(set(chosen.tolist())) == size
    for label, number in zip(*np.unique(labels, return_counts=True), strict=True):
        assert abs((labels[chosen] == label).sum() - size * number / len(labels)) <= 3
