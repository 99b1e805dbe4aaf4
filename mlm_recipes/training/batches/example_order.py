"""The examples and the dropout noise of each optimizer step, as a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from ...masking.random_keys import Ints, dropout_seed, order_keys
from .token_budget import step_starts, steps_an_epoch

#: Stands for no example, if a process has one fewer than another.
NO_EXAMPLE = -1


STRATEGIES = ("random", "sequential", "group_by_length")


class EpochSampler(torch.utils.data.Sampler[int]):
    """Yield every example once per epoch, in an order that depends only on the seed and the epoch.

    Args:
        num_examples: the number of examples.
        seed: the seed of the order.
        strategy: `random`, `sequential`, or `group_by_length` (transformers' own grouping; needs `lengths`).
        global_batch_size: examples per optimizer step, over all its micro-batches and processes. However they are
            split, step k sees the same examples: 1 x 16, 2 x 8 by accumulation, or 8 in each of two processes.
        drop_last: drop the examples at the end that do not fill a global batch.
        multiple_of: fill the end with `NO_EXAMPLE` up to a multiple of this: the examples of a micro-batch times the
            processes. Then every process takes the same number of batches, and no example is repeated.
        lengths: returns the number of tokens in each example of an epoch, int64.
        tokens_per_batch: about how many tokens a step has, instead of `global_batch_size` examples; needs `lengths`
            (`mlm_recipes.training.batches.token_budget`).

    Yields `epoch * num_examples + index`, for `mlm_recipes.data.rows_of_epoch.RowsOfEpoch` to look up.

    >>> sampler = EpochSampler(5, seed=0, multiple_of=4)
    >>> list(sampler)
    [3, 0, 1, 4, 2, -1, -1, -1]
    >>> sampler.set_epoch(1)
    >>> list(sampler)
    [5, 7, 6, 8, 9, -1, -1, -1]
    >>> sampler = EpochSampler(5, seed=0, tokens_per_batch=12, lengths=lambda epoch: np.array([5, 9, 3, 12, 7]))
    >>> [step.tolist() for step in sampler.steps()]
    [[3], [0, 1], [4, 2]]
    """

    def __init__(
        self,
        num_examples: int,
        seed: int,
        *,
        strategy: str = "random",
        global_batch_size: int = 1,
        drop_last: bool = False,
        multiple_of: int = 1,
        lengths: Callable[[int], Ints] | None = None,
        tokens_per_batch: int | None = None,
    ) -> None:
        assert strategy in STRATEGIES, strategy
        assert lengths is not None or (strategy != "group_by_length" and tokens_per_batch is None)
        self.tokens_per_batch = tokens_per_batch
        steps = None
        if lengths is not None and tokens_per_batch is not None:
            steps = steps_an_epoch(lengths(0), tokens_per_batch)
            # Without a rest that could be dropped, and without places to fill: steps have any number of rows.
            global_batch_size, drop_last, multiple_of = max(1, num_examples // steps), False, 1
        self.num_examples = num_examples
        self.seed = seed
        self.strategy = strategy
        self.global_batch_size = global_batch_size
        self.kept = num_examples - num_examples % global_batch_size if drop_last else num_examples
        self.filled = -(-self.kept // multiple_of) * multiple_of
        self.lengths = lengths
        #: The number of optimizer steps, the same in every epoch.
        self.steps_an_epoch = -(-self.filled // global_batch_size) if steps is None else steps
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.filled

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.num_examples
        yield from (first + index for index in self._order()[: self.kept])
        yield from [NO_EXAMPLE] * (self.filled - self.kept)

    def steps(self) -> Iterator[Ints]:
        """Yield the keys of each optimizer step of the epoch, those that stand for no example included."""
        keys = np.array(list(self), dtype=np.int64)
        if self.lengths is not None and self.tokens_per_batch is not None:
            starts = step_starts(self.lengths(self.epoch)[keys % self.num_examples], self.steps_an_epoch)
        else:
            starts = np.append(np.arange(0, len(keys), self.global_batch_size), len(keys))
        for first, end in pairwise(starts):
            yield keys[first:end]

    def _order(self) -> Sequence[int]:
        if self.strategy == "sequential":
            return range(self.num_examples)
        keys = order_keys(self.seed, self.epoch, np.arange(self.num_examples))
        if self.lengths is None or self.strategy == "random":
            return np.argsort(keys, kind="stable").tolist()
        generator = torch.Generator().manual_seed(int(keys[0]))
        lengths = self.lengths(self.epoch).tolist()
        return get_length_grouped_indices(lengths, self.global_batch_size, generator=generator)


class StepSeeds(TrainerCallback):
    """Set the sampler's epoch, and seed torch's generators for every step, differently in each process.

    A step's dropout is then a function of (seed, step, process). Nothing between two steps, such as an evaluation, a
    checkpoint or the start of a worker, can change it, and a resumed run does not need to restore it.

    The epoch is set here because accelerate's loaders do not set it on a sampler under both a BatchSamplerShard and a
    SkipBatchSampler, after a resume inside an epoch with several processes (seen in accelerate 1.15).
    """

    def __init__(self) -> None:
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the sampler's epoch."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seed the random numbers of the step."""
        seed_step(args, state.global_step)


def seed_step(args: Any, step: int) -> None:
    """Seed the dropout of a step, an MLMConfig's: with `dropout_by_example` the same in each process.

    torch's generators of the CPU and of the run's device are seeded. `torch.manual_seed` does that for all kinds of
    device, and takes a millisecond for those that a machine does not have.

    >>> from mlm_recipes import MLMConfig
    >>> seed_step(MLMConfig(seed=3, use_cpu=True), step=1)
    >>> torch.initial_seed() == dropout_seed(3, 1, process=0)
    True
    """
    seed = dropout_seed(args.seed, step, 0 if args.dropout_by_example else args.process_index)
    torch.default_generator.manual_seed(seed)
    if args.device.type != "cpu":
        torch.get_device_module(args.device).manual_seed(seed)
