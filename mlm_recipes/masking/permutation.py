"""A random order of many things that is computed place by place: nothing is shuffled, stored or restored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .random_keys import Ints, Keys, mix, order_keys

#: Four rounds with random functions cannot be told from a random permutation of a large set (Luby and Rackoff 1988).
#: Our functions are 64-bit hashes, and a small set needs more rounds.
ROUNDS = 8

#: Below this many bits, too few different orders would be possible; what is outside a smaller set is walked over.
_FEWEST_BITS = 6


def permuted(places: npt.ArrayLike, size: int, seed: int, epoch: int) -> Ints:
    """Return which of `size` things is at each of some places of an epoch's order, int64, shape `(places,)`.

    The order is a permutation of `range(size)`: a function of the size, the seed and the epoch. It takes the same time
    for any place, and memory only for the places that are asked for.

    It is a Feistel network ("How to construct pseudorandom permutations from pseudorandom functions", Luby and Rackoff
    1988, https://doi.org/10.1137/0217022) on the smallest power of two that is large enough. A result outside the
    `size` things goes through the network again until it is one of them (cycle-walking; "Ciphers with arbitrary finite
    domains", Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9): fewer than two rounds through the
    network on average, from 64 things on.

    Args:
        places: numbers from 0 to below `size`.
        size: the number of things, from 1 to 2**62.
        seed, epoch: as for `mlm_recipes.masking.random_keys.order_keys`.

    >>> permuted([0, 1, 2, 3, 4], size=5, seed=0, epoch=0).tolist()
    [1, 0, 4, 2, 3]
    >>> permuted([10**9], size=10**12, seed=0, epoch=0).tolist()
    [745259487029]
    """
    assert 1 <= size <= 2**62, size
    bits = max(_FEWEST_BITS, (size - 1).bit_length())
    keys = order_keys(seed, epoch, np.arange(ROUNDS))
    found = np.atleast_1d(np.asarray(places, dtype=np.int64)).astype(np.uint64)
    assert not len(found) or int(found.max()) < size, "a place beyond the end"
    outside: npt.NDArray[np.intp] = np.arange(len(found))
    while len(outside):
        walked = _network(found[outside], bits, keys)
        found[outside] = walked
        outside = outside[walked >= np.uint64(size)]
    return found.view(np.int64)


def _network(numbers: Keys, bits: int, keys: Keys) -> Keys:
    """Return another number of so many bits for each: one half is changed by a function of the other, in turn.

    Whatever that function is, the step is undone by repeating it, so two numbers never become the same one.
    """
    low = np.uint64(bits // 2)
    high_mask, low_mask = np.uint64(2 ** (bits - bits // 2) - 1), np.uint64(2 ** (bits // 2) - 1)
    high, lower = numbers >> low, numbers & low_mask
    for number, key in enumerate(keys):
        if number % 2:
            high = high ^ (mix(lower ^ key) & high_mask)
        else:
            lower = lower ^ (mix(high ^ key) & low_mask)
    return (high << low) | lower
