"""The batches of a prepared corpus, by their places in an epoch: a resumed run passes over those before it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ...data.prepared_rows import PreparedRows
from .example_order import NO_EXAMPLE, EpochSampler


class Places(EpochSampler):
    """Yield an epoch's places in order; a `ShuffledOrder` says which rows are there, when they are read.

    >>> list(Places(5, seed=0, strategy="sequential", multiple_of=4))
    [0, 1, 2, 3, 4, -1, -1, -1]
    """

    def step_of(self, key: int) -> int:
        """Return which step of the run, from 0, reads the row at a place.

        >>> places = Places(5, seed=0, strategy="sequential", global_batch_size=2)  # three steps an epoch
        >>> [places.step_of(key) for key in range(10)]
        [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
        """
        epoch, place = divmod(key, self.num_examples)
        return epoch * self.steps_an_epoch + place // self.global_batch_size


class PlaceBatches(torch.utils.data.BatchSampler):
    """Yield batches of places as ranges: making one that is passed over takes a ten-millionth of a second.

    accelerate passes over the batches before a resumed step one by one. Of ten million rows in batches of 64, these are
    up to 156,250; numbers instead of ranges would be ten million.

    >>> list(PlaceBatches(Places(5, seed=0, strategy="sequential", multiple_of=4), 2))
    [range(0, 2), range(2, 4), [4, -1], [-1, -1]]
    """

    def __init__(self, places: Places, batch_size: int) -> None:
        super().__init__(places, batch_size, drop_last=False)
        self.places = places

    def __iter__(self) -> Iterator[Any]:
        size, places = self.batch_size, self.places
        first = places.epoch * places.num_examples
        full = places.kept // size * size
        yield from map(range, range(first, first + full, size), range(first + size, first + full + size, size))
        rest: Sequence[int] = [*range(first + full, first + places.kept), *[NO_EXAMPLE] * (places.filled - places.kept)]
        for begin in range(0, len(rest), size):
            yield rest[begin : begin + size]


def check_prepared(train_dataset: Any, args: Any) -> None:
    """Raise ValueError if the rows are prepared, and a value of the config would need to know all of them."""
    if not isinstance(train_dataset, PreparedRows):
        return
    if args.tokens_per_batch is not None:
        raise ValueError(
            f"tokens_per_batch: received {args.tokens_per_batch} with a prepared corpus. Accepted: no value, since the "
            "lengths of so many rows are not read before the first step. Leave it out; prepare the corpus with "
            "--packing true, and each row has the same number of tokens."
        )
    if str(args.train_sampling_strategy) == "group_by_length":
        raise ValueError(
            "train_sampling_strategy: received 'group_by_length' with a prepared corpus. Accepted: random or "
            "sequential, since the order of its rows is computed row by row, without the lengths of all. Leave it out; "
            "prepare the corpus with --packing true for rows of one length."
        )
