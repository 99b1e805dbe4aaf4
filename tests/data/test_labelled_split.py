from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.data.labelled_split import hold_out


@pytest.mark.parametrize("seed", [0, 1])
def test_a_quarter_of_each_label_is_held_out(seed):
    labels = np.array([0] * 80 + [1] * 40 + [2] * 12)
    held = hold_out([f"text {n}" for n in range(len(labels))], labels, seed)
    assert np.bincount(labels[held]).tolist() == [20, 10, 3]


def test_copies_stay_together():
    texts = [f"text {n % 30}" if n < 30 else f"Text   {n % 30}" for n in range(60)]
    held = hold_out(texts, np.arange(60) % 2)
    assert held[:30].tolist() == held[30:].tolist()
    assert held.any()


def test_the_seed_decides():
    texts, labels = [f"text {n}" for n in range(40)], np.zeros(40, dtype=np.int64)
    assert hold_out(texts, labels, 0).tolist() == hold_out(texts, labels, 0).tolist()
    assert hold_out(texts, labels, 0).tolist() != hold_out(texts, labels, 1).tolist()
