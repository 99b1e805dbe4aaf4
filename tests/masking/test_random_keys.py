from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.random_keys import CHOOSE, EVALUATION_EPOCH, RANDOM_TOKEN, REPLACE, draw, sequence_keys

seeds = st.integers(-(2**63), 2**64 - 1)
ids = st.integers(0, 2**62)


@given(seeds, ids, st.lists(st.tuples(ids, st.integers(1, 40)), min_size=1, max_size=8), st.data())
def test_a_sequences_numbers_do_not_depend_on_other_sequences(seed, epoch, sequences, data):
    one = data.draw(st.integers(0, len(sequences) - 1))
    keys = sequence_keys(seed, epoch, [example for example, _ in sequences])
    lengths = np.array([length for _, length in sequences])
    together = np.split(draw(keys, lengths, CHOOSE), np.cumsum(lengths)[:-1])[one]
    example, length = sequences[one]
    alone = draw(sequence_keys(seed, epoch, [example]), np.array([length]), CHOOSE)
    assert (together == alone).all()


@given(seeds, ids, ids)
def test_a_longer_sequence_begins_with_the_same_numbers(seed, epoch, example):
    key = sequence_keys(seed, epoch, [example])
    assert (draw(key, np.array([9]), REPLACE)[:4] == draw(key, np.array([4]), REPLACE)).all()


def test_numbers_are_uniform_in_the_unit_interval():
    numbers = draw(sequence_keys(0, 0, range(1000)), np.full(1000, 100), CHOOSE)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    chi_square = ((counts - 5000) ** 2 / 5000).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001; the numbers are fixed, so this test is not flaky


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 0, 1, CHOOSE), (1, 0, 1, CHOOSE)),
        ((0, 0, 1, CHOOSE), (0, 1, 1, CHOOSE)),
        ((0, 0, 1, CHOOSE), (0, 0, 2, CHOOSE)),
        ((0, 0, 1, CHOOSE), (0, 0, 1, REPLACE)),
        ((0, 0, 1, REPLACE), (0, 0, 1, RANDOM_TOKEN)),
        ((0, 1, 0, CHOOSE), (1, 0, 0, CHOOSE)),
        ((0, 0, 0, CHOOSE), (0, EVALUATION_EPOCH, 0, CHOOSE)),
    ],
)
def test_seed_epoch_example_and_purpose_each_change_the_numbers(first, second):
    a, b = (draw(sequence_keys(seed, epoch, [i]), np.array([10_000]), what) for seed, epoch, i, what in (first, second))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.04  # four standard deviations
    assert (a != b).all()


def test_neighbouring_positions_are_independent():
    numbers = draw(sequence_keys(3, 5, [7]), np.array([20_000]), CHOOSE)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 0.03
