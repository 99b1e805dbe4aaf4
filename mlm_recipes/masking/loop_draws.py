"""Which masks a batch gets in a loop that does not number its epochs, such as a plain DataLoader or Trainer."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from .random_keys import Ints, Keys, hashed_rows, loop_seed, sequence_keys

#: Workers of one loader whose passes are counted separately; beyond that, two share a count.
_WORKERS = 256

#: A pass is recorded as its number, shifted by so many bits, and so many bits of a number that its workers share.
_MARK_BITS = 40


class LoopDraws:
    """Draws new keys for each batch from a seed alone, so that the same loop draws the same ones again.

    A key is a function of the seed, of the number of batches drawn before, and of the row. A worker of a DataLoader
    begins anew with each pass over the data, so there it is also a function of the worker and the pass: two workers,
    and two passes, have different masks. Passes are counted in memory that all workers share; a pass of which nobody
    took a batch does not count.

    >>> a, b = LoopDraws(7), LoopDraws(7)
    >>> first, second = a.keys(np.array([5])), a.keys(np.array([5]))
    >>> bool(first == b.keys(np.array([5]))), bool(first == second)
    (True, False)
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._process = self._drawn = self._stream = 0
        self._passes = torch.zeros(_WORKERS, dtype=torch.int64)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()  # a copy counts its own passes; what is sent to a worker is shared already

    def _share(self) -> None:
        with suppress(RuntimeError):  # without shared memory there are no workers either
            self._passes.share_memory_()

    def keys(self, row_ids: Ints) -> Keys:
        """Return a key for each row of the next batch, shape `(batch,)`."""
        if self._process != os.getpid():
            self._begin()
        self._drawn += 1
        return sequence_keys(self._stream, self._drawn, row_ids)

    def _begin(self) -> None:
        worker: Any = torch.utils.data.get_worker_info()
        self._process, self._drawn = os.getpid(), 0
        self._stream = (
            loop_seed(self.seed) if worker is None else loop_seed(self.seed, worker.id, self._pass_of(worker))
        )

    def _pass_of(self, worker: Any) -> int:
        """Return the number of the pass, from 1, that a worker belongs to, and record it.

        Workers of one pass share the number that their loader drew for it. They agree without a lock: whoever is first
        counts on from the highest number, and so does another that does not see it yet.
        """
        mark = (worker.seed - worker.id) % 2**_MARK_BITS
        known = self._passes.tolist()
        own, own_mark = divmod(known[worker.id % _WORKERS], 2**_MARK_BITS)
        same = [value >> _MARK_BITS for value in known if value and value % 2**_MARK_BITS == mark]
        highest = max(value >> _MARK_BITS for value in known)
        # A loader whose generator is seeded before each pass draws the same number again.
        again = own_mark == mark and own == max(same, default=0)
        number = max(same) if same and not again else highest + 1
        self._passes[worker.id % _WORKERS] = (number << _MARK_BITS) + mark
        return number


def row_ids(flat: Ints, lengths: Ints, example_ids: list[Any]) -> Ints:
    """Return a number for each row, shape `(batch,)`: its `example_id`, or if that is None a hash.

    The hash is one of its tokens and of its place in the batch, so that processes that draw the same numbers for
    different text mask it differently, and copies in a batch are masked differently.

    >>> row_ids(np.array([7, 8, 7, 8, 9]), np.array([2, 2, 1]), [4, None, None]).tolist()[:1]
    [4]
    """
    if None not in example_ids:
        return np.array([int(example_id) for example_id in example_ids], dtype=np.int64)
    hashes = hashed_rows(flat, lengths)
    given = [int(hash_) if each is None else int(each) for each, hash_ in zip(example_ids, hashes, strict=True)]
    return np.array(given, dtype=np.int64)
