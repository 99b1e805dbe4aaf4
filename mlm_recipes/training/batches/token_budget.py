"""`tokens_per_batch`: which rows of an epoch make up each step, if steps have a number of tokens instead of rows.

An epoch is divided into as many steps as it has budgets of tokens, rounded up, and into parts as equal as whole rows
allow. So every epoch has the same number of steps, whatever its order, and no step at its end is smaller than the
others: the number of steps, their numbers and a checkpoint's place follow from the data and the seed, as with rows.
fairseq's `max_tokens` (Ott et al. 2019, https://arxiv.org/abs/1904.01038) instead fills each batch up to a limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...masking.random_keys import Ints


def steps_an_epoch(lengths: Sequence[int] | Ints, tokens_per_batch: int) -> int:
    """Return the number of steps of an epoch whose rows have these numbers of tokens.

    Raises: ValueError if one row has more tokens than a step.

    >>> steps_an_epoch([5, 9, 3, 12, 7], tokens_per_batch=12)
    3
    """
    longest = int(np.max(lengths))
    if longest > tokens_per_batch:
        raise ValueError(
            f"tokens_per_batch: received {tokens_per_batch}, and the longest row has {longest} tokens. Accepted: at "
            f"least as many, over all processes and micro-batches of a step. Pass --tokens_per_batch {16 * longest}, "
            "or shorten the rows with --max_length."
        )
    return -(-int(np.sum(lengths)) // tokens_per_batch)


def step_starts(lengths: Sequence[int] | Ints, steps: int) -> Ints:
    """Return the place of each step's first row, and the number of rows: int64, shape `(steps + 1,)`.

    A row belongs to the step in which its middle lies, if the epoch's tokens are divided equally. So a step differs
    from its share by less than the longest row, and has at least one row.

    Args:
        lengths: the number of tokens of each row, in the epoch's order.
        steps: the number of steps, at most that of the rows.

    >>> step_starts([5, 9, 3, 12, 7], steps=3).tolist()
    [0, 2, 4, 5]
    """
    assert 1 <= steps <= len(lengths)
    tokens = np.asarray(lengths, dtype=np.int64)
    ends = np.cumsum(tokens)
    step = (2 * ends - tokens) * steps // (2 * ends[-1])  # in whole numbers, the same on every machine
    starts = np.searchsorted(step, np.arange(steps + 1))
    starts[-1] = len(tokens)
    numbers = np.arange(steps + 1)
    # A row longer than two shares would leave a step without any; the steps beside it then give it one of theirs.
    starts = np.maximum.accumulate(starts - numbers) + numbers
    return np.minimum(starts, len(tokens) - steps + numbers)
