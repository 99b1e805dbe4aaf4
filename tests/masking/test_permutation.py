"""The order that is computed place by place: a permutation of any size, and as random as a shuffled one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_recipes.masking.permutation import permuted

#: An order of 10 billion rows is looked at in pieces: the whole would not fit into memory.
LARGE = 10**10


@given(size=st.integers(1, 3_000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6))
@settings(max_examples=40)
def test_it_is_a_permutation_of_any_size(size, seed, epoch):
    found = permuted(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(found), np.arange(size))


@pytest.mark.parametrize("size", [255, 256, 257, 2**16 - 1, 2**16, 2**16 + 1])
def test_it_is_a_permutation_beside_powers_of_two(size):
    assert np.array_equal(np.sort(permuted(np.arange(size), size, 3, 1)), np.arange(size))


@given(st.lists(st.integers(0, LARGE - 1), max_size=10))
@settings(max_examples=15)
def test_a_place_has_the_same_thing_whatever_it_is_asked_with(places):
    alone = [permuted([place], LARGE, 5, 2).item() for place in places]
    assert permuted(places, LARGE, 5, 2).tolist() == alone


def test_places_that_differ_have_things_that_differ_in_a_large_order():
    found = permuted(np.arange(LARGE - 200_000, LARGE), LARGE, 5, 2)
    assert len(np.unique(found)) == 200_000
    assert found.min() >= 0
    assert found.max() < LARGE


@pytest.mark.parametrize("size", [5, 70])
def test_each_thing_is_equally_often_at_each_place(size):
    """Chi-squared of each place, over 300 epochs: below its mean by chance plus six standard deviations."""
    epochs = 300
    found = np.stack([permuted(np.arange(size), size, 7, epoch) for epoch in range(epochs)])
    for place in range(0, size, max(1, size // 10)):
        times = np.bincount(found[:, place], minlength=size)
        statistic = ((times - epochs / size) ** 2 / (epochs / size)).sum()
        assert statistic < (size - 1) + 6 * np.sqrt(2 * (size - 1)), place


def test_all_six_orders_of_three_things_are_equally_frequent():
    """Each is drawn 60 times of 360, give or take five standard deviations of 7.1."""
    found = [tuple(permuted([0, 1, 2], 3, 1, epoch).tolist()) for epoch in range(360)]
    times = [found.count(order) for order in set(found)]
    assert len(times) == 6
    assert max(abs(number - 60) for number in times) < 5 * np.sqrt(360 / 6 * 5 / 6)


def test_neighbours_epochs_and_seeds_have_nothing_in_common():
    """Correlations of n pairs have a standard deviation of 1 / sqrt(n); all stay below six of them."""
    size, number = 10**7, 100_000
    first = permuted(np.arange(number), size, 0, 0)
    others = {
        "the place": np.arange(number),
        "the neighbour": permuted(np.arange(1, number + 1), size, 0, 0),
        "the next epoch": permuted(np.arange(number), size, 0, 1),
        "another seed": permuted(np.arange(number), size, 1, 0),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(first, other)[0, 1]) < 6 / np.sqrt(number), name
        assert not np.array_equal(first, other), name


def test_a_run_of_places_is_spread_evenly():
    """Of 100,000 places in a row, each hundredth of the things has 1,000, give or take six standard deviations."""
    for first in (0, 9_900_000):
        times = np.bincount(permuted(np.arange(first, first + 100_000), 10**7, 2, 3) // 10**5, minlength=100)
        assert np.abs(times - 1_000).max() < 6 * np.sqrt(1_000)
