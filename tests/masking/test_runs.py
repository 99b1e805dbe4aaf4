from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.span import LENGTHS
from mlm_recipes.masking.random_keys import CHOOSE, LENGTH, sequence_keys
from mlm_recipes.masking.runs import choose_runs

THREE = np.array([0, 0, 1.0])


def rows_of(lengths, seed=0, maskable=None):
    total = sum(lengths)
    maskable = np.full(total, True) if maskable is None else maskable
    return FlatTokens(np.arange(total), maskable, sequence_keys(seed, 0, range(len(lengths))), np.array(lengths))


def runs_in(row):
    """Return the beginnings and the lengths of the runs of a row."""
    borders = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
    return borders[::2], borders[1::2] - borders[::2]


def chi_square(counts, expected):
    return float((((counts - expected) ** 2) / expected).sum())


# The value that chi-square exceeds once in ten thousand times, by its degrees of freedom.
RARE = {4: 23.51, 9: 33.72, 11: 37.37}


def test_the_lengths_of_runs_and_gaps_are_those_asked_for():
    share, words = 0.15, 400_000
    chosen = choose_runs(rows_of([words]), np.arange(words), np.array([share]), LENGTHS)
    begins, lengths = runs_in(chosen)
    begins, lengths = begins[1:-1], lengths[1:-1]  # the first and the last may be cut off
    counts = np.bincount(lengths, minlength=11)[1:]
    assert len(counts) == 10  # none is longer, since none touch
    assert chi_square(counts, LENGTHS * len(lengths)) < RARE[9]
    gaps = np.diff(begins) - lengths[:-1]
    assert gaps.min() == 1
    mean = np.arange(1, 11) @ LENGTHS * (1 - share) / share
    borders = np.array([1, 2, 4, 6, 9, 12, 16, 20, 26, 34, 45, 60])
    upper = np.append(borders[1:], np.inf)
    expected = (1 - 1 / mean) ** (borders - 1) - (1 - 1 / mean) ** (upper - 1)
    found = np.histogram(gaps, np.append(borders, 10**9))[0]
    assert chi_square(found, expected * len(gaps)) < RARE[11]


def test_what_is_left_of_a_first_run_is_as_if_the_row_had_begun_before():
    rows = 40_000
    chosen = choose_runs(rows_of([12] * rows), np.arange(12 * rows), np.full(rows, 0.5), LENGTHS).reshape(rows, 12)
    inside = chosen[chosen[:, 0]]
    left = np.where(inside.all(1), 12, (~inside).argmax(1))
    longer = np.cumsum(LENGTHS[::-1])[::-1]
    assert chi_square(np.bincount(left, minlength=11)[1:11], longer / longer.sum() * len(left)) < RARE[9]


@pytest.mark.parametrize("probabilities", [LENGTHS, THREE], ids=["spans", "threes"])
@pytest.mark.parametrize("share", [0.05, 0.15, 0.5, 0.79, 0.9])
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_each_place_of_a_row_of_any_length_has_its_share(probabilities, share, length):
    rows = 20_000
    shares = np.full(rows, share)
    chosen = choose_runs(rows_of([length] * rows), np.arange(length * rows), shares, probabilities).reshape(rows, -1)
    # Four and a half standard deviations, since there are 400 places.
    assert (abs(chosen.mean(0) - share) < 4.5 * (share * (1 - share) / rows) ** 0.5).all()


def test_a_share_of_one_is_everything():
    assert choose_runs(rows_of([5, 1]), np.arange(6), np.array([1.0, 1.0]), LENGTHS).all()


def plain(tokens, units, share, probabilities):
    """Draw a gap and a run after it, again and again, one sequence at a time."""
    sizes, chosen, start = np.arange(1, len(probabilities) + 1), np.zeros(len(tokens.ids), dtype=bool), 0
    gap_mean = sizes @ probabilities * (1 - share) / share
    gap_numbers, length_numbers = tokens.draw(CHOOSE), tokens.draw(LENGTH)
    for length in tokens.lengths.tolist():
        places = {}
        for place in range(start, start + length):
            if tokens.maskable[place]:
                places.setdefault(units[place], []).append(place)
        of_units = list(places.values())
        at, number = 0, 0
        while at < len(of_units):
            gap_number, length_number = (numbers[of_units[number][0]] for numbers in (gap_numbers, length_numbers))
            weights, gap = probabilities, None
            if number == 0 and gap_number < share:
                longer = np.cumsum(probabilities[::-1])[::-1]
                weights, gap = longer / longer.sum(), 0
            elif number == 0:
                gap_number = (gap_number - share) / (1 - share)
            if gap is None:
                gap = 1
                while gap_mean > 1 and 1 - gap_number <= (1 - 1 / gap_mean) ** gap and gap <= len(of_units):
                    gap += 1
                if gap_mean < 1 and number > 0 and gap_number >= gap_mean:
                    gap = 0
            size = int(np.searchsorted(np.cumsum(weights), length_number, side="right")) + 1
            for unit in of_units[at + gap : at + gap + size]:
                chosen[unit] = True
            at, number = at + gap + size, number + 1
        start += length
    return chosen


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.sampled_from([0.1, 0.15, 0.4, 0.7, 0.9, 1.0]),
    st.sampled_from([LENGTHS, THREE, np.array([1.0])]),
    st.randoms(use_true_random=False),
)
def test_it_is_the_plain_version(lengths, share, probabilities, random):
    total = sum(lengths)
    maskable = np.array([random.random() < 0.9 for _ in range(total)], dtype=bool)
    units = np.cumsum([random.random() < 0.7 for _ in range(total)], dtype=np.int64)
    tokens = rows_of(lengths, seed=random.randrange(100), maskable=maskable)
    found = choose_runs(tokens, units, np.full(len(lengths), share), probabilities)
    assert (found == plain(tokens, units, share, probabilities)).all()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_at_least_one_is_a_whole_run_where_there_is_room(lengths):
    chosen = choose_runs(rows_of(lengths), np.arange(sum(lengths)), np.full(len(lengths), 1e-12), THREE, True)
    counts = np.add.reduceat(chosen, np.cumsum(lengths) - lengths)
    assert (counts == np.minimum(lengths, 3)).all()
