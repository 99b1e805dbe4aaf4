"""Chooses runs of neighbours, so that runs and the gaps between them alternate along each sequence."""

from __future__ import annotations

import numpy as np

from .flat_tokens import FlatTokens
from .random_keys import CHOOSE, LENGTH, Bools, Floats, Ints


def choose_runs(
    tokens: FlatTokens, units: Ints, shares: Floats, length_probabilities: Floats, at_least_one: bool = False
) -> Bools:
    """Choose runs of units, such as words, with random lengths; the result has shape `(tokens,)`.

    Runs and gaps alternate, both independent (an alternating renewal process; Cox 1962, "Renewal Theory", chapter 7).
    The lengths of gaps are geometric, at least 1 and with the mean that makes the share right. A sequence begins within
    a run or a gap with the probability that any other place of it has. Therefore each unit of each sequence, the first,
    the last and that of a short one, is chosen with exactly the probability `shares`. A run is cut off where its
    sequence ends, and the first one may have begun before it; no other bias is left.

    Where the share is above `mean / (mean + 1)`, gaps of 1 are too long: some are 0, and their runs touch.

    Args:
        tokens: the batch. Units without a maskable token do not count, and a run goes on after them.
        units: the number of each token's unit, shape `(tokens,)`, rising along each sequence.
        shares: the probability of each sequence, shape `(batch,)`.
        length_probabilities: those of the lengths 1, 2 ..., which sum to 1.
        at_least_one: choose a run that begins with the unit whose random number is lowest in a sequence without any,
            moved to the front where the sequence ends too early.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> tokens = FlatTokens(np.arange(40), np.full(40, True), sequence_keys(0, 0, [1]), np.array([40]))
    >>> np.flatnonzero(choose_runs(tokens, np.arange(40), np.array([0.2]), np.array([0, 0, 1.0]))).tolist()
    [20, 21, 22]
    """
    maskable = np.flatnonzero(tokens.maskable)
    chosen = np.zeros(len(tokens.ids), dtype=np.bool_)
    if not len(maskable):
        return chosen
    sequence = tokens.sequence[maskable]
    begins = (np.diff(units[maskable], prepend=-1) != 0) | (np.diff(sequence, prepend=-1) != 0)
    first, row = maskable[begins], sequence[begins]  # of each unit its first token, whose random numbers count
    count = np.bincount(row, minlength=len(tokens.lengths))  # units of each sequence
    start = (np.cumsum(count) - count)[row]  # of each unit's sequence, counted in units
    index = np.arange(len(first)) - start
    numbers = tokens.draw(CHOOSE)[first], tokens.draw(LENGTH)[first]
    gaps, lengths = _gaps_and_lengths(*numbers, shares[row], index == 0, length_probabilities)
    # The n-th gap and run of a sequence come from the random numbers of its n-th unit; there are enough of them.
    gaps = np.minimum(gaps, count[row]).astype(np.int64)
    steps = np.cumsum(gaps + lengths)
    ends = steps - np.concatenate([[0], steps])[start]  # counted from the sequence's beginning
    within = ends - lengths < count[row]
    begin, end = (start + ends - lengths)[within], (start + np.minimum(ends, count[row]))[within]
    if at_least_one:
        without = np.bincount(row[within], minlength=len(count)) == 0
        more = _one_each(without, numbers[1], lengths, row, count, index, start)
        begin, end = np.concatenate([begin, more[0]]), np.concatenate([end, more[1]])
    borders = np.bincount(begin, minlength=len(first) + 1) - np.bincount(end, minlength=len(first) + 1)
    covered = np.cumsum(borders) > 0  # (units + 1,)
    chosen[maskable] = covered[np.cumsum(begins) - 1]
    return chosen


def _gaps_and_lengths(
    gap_numbers: Floats, length_numbers: Floats, shares: Floats, is_first: Bools, probabilities: Floats
) -> tuple[Floats, Ints]:
    """Return a gap and the run after it for each unit, both of shape `(units,)`."""
    sizes = np.arange(1, len(probabilities) + 1)
    gap_mean = float(sizes @ probabilities) * (1 - shares) / shares
    inside = is_first & (gap_numbers < shares)  # the sequence begins within a run
    before = is_first & ~inside
    left = np.where(before, (gap_numbers - shares) / np.where(before, 1 - shares, 1), gap_numbers)  # uniform again
    with np.errstate(divide="ignore"):  # a mean of 1: all gaps are 1
        geometric = 1 + np.floor(np.log1p(-left) / np.log1p(-1 / np.maximum(gap_mean, 1)))
    gaps = np.where(gap_mean >= 1, geometric, before | (left < gap_mean))
    lengths = _drawn(probabilities, length_numbers)
    # Where a sequence begins within a run, what is left of it is r with a probability proportional to P(length >= r).
    longer = np.cumsum(probabilities[::-1])[::-1]
    lengths[inside] = _drawn(longer / longer.sum(), length_numbers[inside])
    return np.where(inside, 0, gaps), lengths


def _drawn(probabilities: Floats, numbers: Floats) -> Ints:
    """Return a size from 1 on for each number in [0, 1).

    >>> _drawn(np.array([0.5, 0.5]), np.array([0.2, 0.5, 0.9])).tolist()
    [1, 2, 2]
    """
    drawn = np.searchsorted(np.cumsum(probabilities), numbers, side="right") + 1
    return np.minimum(drawn, len(probabilities))  # the sum may be rounded to less than 1


def _one_each(
    without: Bools, numbers: Floats, lengths: Ints, row: Ints, count: Ints, index: Ints, start: Ints
) -> tuple[Ints, Ints]:
    """Return where a run begins and ends in each sequence that has none; see `choose_runs`."""
    lowest = np.full(len(count), np.inf)
    np.minimum.at(lowest, row, numbers)
    one = np.flatnonzero(without[row] & (numbers == lowest[row]))
    begin = np.maximum(np.minimum(index[one], count[row[one]] - lengths[one]), 0)
    return start[one] + begin, start[one] + np.minimum(begin + lengths[one], count[row[one]])
