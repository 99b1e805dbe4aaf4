"""Random numbers for masks, order and dropout: a pure function of a seed, an epoch, an example and a purpose.

They come from a counter-based generator (SplitMix64; Steele, Lea and Flood 2014,
https://doi.org/10.1145/2714064.2660195), so no state has to be kept, saved or restored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

#: The epoch that is reserved for evaluation's first draw of masks; further draws use the following epochs. The epoch
#: before it chooses the tokens that are masked one at a time. Training counts its epochs from 0 and never reaches it.
EVALUATION_EPOCH = 2**62


# The purposes of random numbers: each has its own stream. Those from the fourth on also have keys of their own, so that
# adding one changes no other's numbers.
CHOOSE, REPLACE, RANDOM_TOKEN, LENGTH, ROUND = range(5)
_WITH_THE_SAME_KEYS = 3


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(x: Keys) -> Keys:
    """Return SplitMix64's output for `x`: a bijection in which each input bit flips about half of the output bits.

    >>> mix(np.array([1], dtype=np.uint64)).tolist()
    [6238072747940578789]
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sequence_keys(seed: int, epoch: npt.ArrayLike, example_ids: npt.ArrayLike) -> Keys:
    """Return one 64-bit key per example, shape `(batch,)`: a pure function of seed, epoch and example id.

    `epoch` is a single number, or has shape `(batch,)`.

    >>> sequence_keys(seed=0, epoch=0, example_ids=[0, 1]).tolist() == sequence_keys(0, 0, [0, 1]).tolist()
    True
    >>> int(sequence_keys(0, 0, [7])[0]) == int(sequence_keys(0, 1, [7])[0])
    False
    """
    ids = np.atleast_1d(np.asarray(example_ids, dtype=np.int64)).astype(np.uint64)
    key = mix(np.array([seed % 2**64], dtype=np.uint64) + _GAMMA)
    key = mix((key ^ np.asarray(epoch, dtype=np.int64).astype(np.uint64)) + _GAMMA)
    return mix((key ^ ids) + _GAMMA)


def draw(keys: Keys, lengths: Ints, purpose: int) -> Floats:
    """Return one number in [0, 1) per token, shape `(lengths.sum(),)`.

    `keys` and `lengths` have shape `(batch,)`. A token's number depends only on its sequence's key, its position in the
    sequence and the purpose, not on other sequences.

    >>> a, b = sequence_keys(0, 0, [5, 9])
    >>> both = draw(np.array([a, b]), np.array([3, 2]), CHOOSE)
    >>> bool((both[3:] == draw(np.array([b]), np.array([2]), CHOOSE)).all())
    True
    """
    if purpose >= _WITH_THE_SAME_KEYS:
        keys, purpose = mix(keys ^ np.uint64(purpose)), 0
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    position = np.arange(int(lengths.sum()), dtype=np.int64) - starts
    counter = position.astype(np.uint64) * np.uint64(3) + np.uint64(purpose + 1)
    return (mix(np.repeat(keys, lengths) + counter * _GAMMA) >> np.uint64(11)).astype(np.float64) * 2.0**-53


# These keys are computed like those for masks, with epochs that masks never use.
_ORDER, _DROPOUT, _LOOP = 2**61, 2**60, 2**59


def order_keys(seed: int, epoch: int, example_ids: Ints) -> Keys:
    """Return a key for each example; sorting by it puts an epoch's examples in a random order.

    >>> np.argsort(order_keys(seed=0, epoch=0, example_ids=np.arange(5))).tolist()
    [3, 0, 1, 4, 2]
    """
    return sequence_keys(seed, _ORDER + epoch, example_ids)


def dropout_seed(seed: int, step: int, process: int) -> int:
    """Return the seed of one step's dropout in one process.

    >>> dropout_seed(0, 1, 0) == dropout_seed(0, 1, 0), dropout_seed(0, 1, 0) == dropout_seed(0, 1, 1)
    (True, False)
    """
    return int(sequence_keys(seed, _DROPOUT + process, [step])[0])


def loop_seed(seed: int, worker: int = -1, number: int = 0) -> int:
    """Return a seed for the masks of a loop without epochs: in a worker of a loader, of its pass with this number.

    >>> len({loop_seed(1), loop_seed(1, 0, 1), loop_seed(1, 1, 1), loop_seed(1, 0, 2), loop_seed(2, 0, 1)})
    5
    """
    return int(sequence_keys(seed, _LOOP + worker, [number])[0])


def hashed_rows(flat: Ints, lengths: Ints) -> Ints:
    """Return a hash of each row's tokens and of its place in the batch, shape `(batch,)`.

    >>> a, b, c = hashed_rows(np.array([7, 8, 7, 8, 7, 9]), np.array([2, 2, 2])).tolist()
    >>> len({a, b, c}), a == hashed_rows(np.array([7, 8]), np.array([2])).tolist()[0]
    (3, True)
    """
    ends = np.cumsum(lengths)
    position = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    mixed = mix(flat.astype(np.uint64) + (position.astype(np.uint64) + np.uint64(1)) * _GAMMA)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    place = np.arange(1, len(lengths) + 1, dtype=np.uint64)
    return mix((sums[ends] - sums[ends - lengths]) + place * _GAMMA).view(np.int64)
