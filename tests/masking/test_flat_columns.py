from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.batch_layout import lengths_of
from mlm_recipes.masking.flat_columns import joined, padded, real_positions


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 3), st.sampled_from(["left", "right"]))
def test_padded_and_joined_hold_the_same_tokens_in_the_same_order(lengths, more, side):
    lengths = np.array(lengths)
    column = np.arange(1, lengths.sum() + 1)
    real = real_positions(lengths, int(lengths.max()) + more, side)
    rows = padded(column, real, fill=0)
    one = joined({"input_ids": column}, np.ones_like(column), lengths, first=2)
    assert rows.shape == (len(lengths), lengths.max() + more)
    assert rows[rows > 0].tolist() == one["input_ids"][0].tolist() == column.tolist()
    assert (rows > 0).sum(1).tolist() == lengths_of(one).tolist() == lengths.tolist()
    assert one["position_ids"][0].tolist() == [2 + place for length in lengths for place in range(length)]
    assert (rows[:, -1] > 0).all() if side == "left" else (rows[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.array([1.5, 2.5], dtype=np.float64), torch.float32),
        (np.array([True, False]), torch.bool),
        (np.array([1, 2], dtype=np.int8), torch.int64),
        (np.ones((2, 3)), torch.float32),
    ],
)
def test_a_column_is_padded_in_a_type_that_models_take(column, kind):
    found = padded(column, real_positions(np.array([2]), width=3), fill=0)
    assert found.dtype == kind
    assert found.shape == (1, 3, *column.shape[1:])


def test_a_token_that_nothing_attends_to_keeps_its_position_to_itself():
    found = joined({"input_ids": np.array([7, 0, 8, 9])}, np.array([1, 0, 1, 1]), np.array([3, 1]))
    assert found["input_ids"].tolist() == [[7, 8, 9]]
    assert found["position_ids"].tolist() == [[0, 2, 0]]
