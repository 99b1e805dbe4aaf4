"""The micro-batches of all processes, step by step, if they are dealt by the lengths of their rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from ...data.all_ids import read_completely
from ...data.prepared_rows import PreparedRows
from ...data.streams import TextStream
from ...masking.collator import DataCollatorForMaskedLM
from ...masking.random_keys import Ints
from ..config import MLMConfig
from .dealing import deal_step, in_order
from .example_order import NO_EXAMPLE, EpochSampler
from .mixed_order import all_rows
from .rank_loads import RankLoads
from .scheduled_shares import ScheduledKey

logger = logging.getLogger(__name__)


class StepBatches(torch.utils.data.Sampler[list[int]]):
    """Yield the keys of each micro-batch in the order in which accelerate deals them to the processes, one each.

    Which rows a step has is the sampler's decision alone. Here it is decided who computes which.

    Args:
        sampler: the examples of each step, with their lengths.
        processes: the number of processes.
        micro_batches: the number that each process computes in a step.
        rows: the rows of a micro-batch; None for any number, for steps of so many tokens.
        by_length: divide a step's tokens equally; otherwise deal its rows in order.

    An epoch's last step may have fewer rows, and with `rows` then as many micro-batches as it needs.

    >>> LENGTHS = np.array([1, 9, 1, 8, 1, 2])
    >>> sampler = EpochSampler(6, seed=0, global_batch_size=4, multiple_of=4, lengths=lambda epoch: LENGTHS)
    >>> [step.tolist() for step in sampler.steps()]
    [[3, 0, 1, 5], [4, 2, -1, -1]]
    >>> list(StepBatches(sampler, processes=2, micro_batches=1, rows=2))
    [[0, 1], [3, 5], [4, -1], [2, -1]]
    """

    def __init__(
        self, sampler: EpochSampler, processes: int, micro_batches: int, rows: int | None, by_length: bool = True
    ) -> None:
        assert sampler.lengths is not None
        self.sampler, self.processes, self.micro_batches = sampler, processes, micro_batches
        self.rows, self.by_length = rows, by_length
        self.loads = RankLoads(processes, by_length)
        #: Returns the share of its tokens that a step of the run masks, if that changes.
        self.share: Callable[[int], float] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        if self.rows is not None:
            return len(self.sampler) // self.rows
        return self.sampler.steps_an_epoch * self.micro_batches * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.sampler.epoch
        first = epoch * self.sampler.steps_an_epoch
        for step, keys in enumerate(self.sampler.steps(), first):
            share = None if self.share is None else self.share(step)
            for batch in self.dealt(step, keys, epoch):
                yield batch if share is None else [ScheduledKey(key, share) for key in batch]

    def dealt(self, step: int, keys: Ints, epoch: int) -> list[list[int]]:
        """Return the micro-batches of a step: the first of each process, then the second of each."""
        assert self.sampler.lengths is not None
        lengths = np.where(keys == NO_EXAMPLE, 0, self.sampler.lengths(epoch)[keys % self.sampler.num_examples])
        count = self.micro_batches if self.rows is None else len(keys) // (self.rows * self.processes)
        plain = in_order(len(keys), count * self.processes)
        places = deal_step(lengths.tolist(), self.processes, count, self.rows) if self.by_length else plain
        self.loads.add(step, self._tokens(lengths, places), self._tokens(lengths, plain))
        return [keys[batch].tolist() or [NO_EXAMPLE] for batch in places]

    def of_process(self, step: int, micro_batch: int, process: int) -> list[int]:
        """Return the keys of one micro-batch of a step of the sampler's epoch, both counted from 0."""
        keys = next(islice(self.sampler.steps(), step % self.sampler.steps_an_epoch, None))
        return self.dealt(step, keys, self.sampler.epoch)[micro_batch * self.processes + process]

    def _tokens(self, lengths: Ints, batches: list[list[int]]) -> list[int]:
        """Return the tokens of each process."""
        of_batch = [int(lengths[batch].sum()) for batch in batches]
        return [sum(of_batch[process :: self.processes]) for process in range(self.processes)]


def are_dealt(rows: Any, args: MLMConfig, collator: Any, processes: int) -> bool:
    """Tell whether a step's rows are divided by `StepBatches`: several processes compute joined rows, or by tokens.

    Padded rows cost what the longest one in their batch costs, so equal numbers of tokens would not help there.
    """
    if args.tokens_per_batch is not None:
        return True
    if processes == 1 or not isinstance(collator, DataCollatorForMaskedLM) or not collator.padding_free:
        return False
    known = isinstance(rows, TextStream) or (read_completely(all_rows(rows)) and not isinstance(rows, PreparedRows))
    if args.balance_lengths and not known:
        logger.info("balance_lengths is off: the lengths of the rows are not known before they are read.")
    return known


def require_dealable(args: MLMConfig, collator: Any) -> None:
    """Raise ValueError if steps are to have a number of tokens, and the collator does not accept what that brings."""
    if args.tokens_per_batch is not None and not isinstance(collator, DataCollatorForMaskedLM):
        raise ValueError(
            f"tokens_per_batch: received {args.tokens_per_batch} with your data_collator, {type(collator).__name__}. "
            "Accepted: DataCollatorForMaskedLM, since a process may have no row in a step of few long ones. Leave one "
            "of them out."
        )
