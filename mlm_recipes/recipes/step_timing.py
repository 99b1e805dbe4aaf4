"""How fast this machine trains: times a few steps on a model that is discarded."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..masking.probability_schedule import ProbabilitySchedule
from ..training.batches.kept_batch import layout
from ..training.callbacks.progress import TrainingProgress
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.short_run import cut_short, schedule_values
from ..training.trainer import MLMTrainer

#: The number of seconds after which a single timed step must suffice.
SECONDS = 20.0

#: If fewer steps than FEWEST fit, more and smaller steps teach more in the same time (docs/LOG.md); batches below
#: SMALLEST rows no longer help.
FEWEST, SMALLEST = 100, 8


def time_steps(
    model: Any, config: MLMConfig, rows: Any, tokenizer: Any, warm_up: int, timed: int, quiet: bool = False
) -> list[float]:
    """Take a run's own first steps and return the seconds of each timed one; the same in all processes.

    This trains the model, so pass a copy that is not needed. Nothing is logged, saved or reported.

    Args:
        model: the model.
        config: the run's config; its batch size, precision, optimizer and fast paths are timed.
        rows: the training rows.
        tokenizer: the model's tokenizer.
        warm_up: untimed steps first: a first step allocates, compiles and fills caches.
        timed: the number of timed steps after these; only one if they would take longer than SECONDS.
        quiet: suppress warnings that another trainer with the same values already gives.

    Raises: KeyboardInterrupt if the process is asked to stop meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-pace-") as folder, _hushed() if quiet else nullcontext():
        # Recording graphs would be timed instead of the steps; with graphs, the run takes less time than it may.
        # Nor the first steps, if they train less than the others do.
        all_weights: dict[str, Any] = {"head_warmup_steps": 0.0, "train_new_tokens_first": None}
        changes = all_weights | _mean_share(config)
        args = cut_short(
            config, warm_up + timed, output_dir=folder, logging_strategy="no", cuda_graphs=False, **changes
        )
        clock = _Clock(warm_up)
        trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
        trainer.remove_callback(TrainingProgress)
        trainer.leaves_nothing = True
        trainer.train(resume_from_checkpoint=False)
    return from_main(clock.timed)


def _mean_share(config: MLMConfig) -> dict[str, Any]:
    """Return values with which each step masks the mean share of the run's steps, and takes as long as their mean."""
    schedule, points = config.probability_schedule(), 100  # the run's number of steps may not be known yet
    if schedule is None:
        return {}
    return schedule_values(ProbabilitySchedule("constant", (schedule.mean(range(points), points),)))


@contextmanager
def _hushed() -> Iterator[None]:
    ours = logging.getLogger("mlm_recipes")
    before = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(before)


def step_size(config: MLMConfig) -> str:
    """Return the name of the value that decides how large a step is: the one that the others follow.

    >>> step_size(MLMConfig(use_cpu=True)), step_size(MLMConfig(use_cpu=True, global_batch_size=64))
    ('per_device_train_batch_size', 'global_batch_size')
    """
    others = ("tokens_per_batch", "global_batch_size")
    return next((name for name in others if getattr(config, name) is not None), "per_device_train_batch_size")


def batch_size(config: MLMConfig) -> int:
    """Return the size of a step that `with_batch_size` changes: its tokens if it has a number, else rows per process.

    With `global_batch_size`, these are the rows of all micro-batches of a process, otherwise of one.

    >>> batch_size(MLMConfig(use_cpu=True)), batch_size(MLMConfig(use_cpu=True, tokens_per_batch=4096))
    (16, 4096)
    >>> batch_size(MLMConfig(use_cpu=True, global_batch_size=64))
    64
    """
    size = int(getattr(config, step_size(config)))
    return size if config.global_batch_size is None else size // config.world_size


def with_batch_size(config: MLMConfig, batch: int, **changes: Any) -> MLMConfig:
    """Return the config with steps of another size, as `batch_size` counts it, and further changes."""
    if batch != batch_size(config):
        changes[step_size(config)] = batch
        if config.global_batch_size is not None:
            changes |= {"global_batch_size": batch * config.world_size, "gradient_accumulation_steps": 1}  # it follows
    return replace(config, **changes)


def rows_of_step(config: MLMConfig, batch: int) -> tuple[int, int]:
    """Return the rows of a step in each process, if they are not counted in tokens, and its number of micro-batches.

    Args:
        config: the run's config.
        batch: the step's size, as `batch_size` counts it.

    >>> rows_of_step(MLMConfig(use_cpu=True, gradient_accumulation_steps=2), batch=16)
    (32, 2)
    >>> rows_of_step(MLMConfig(use_cpu=True, global_batch_size=64), batch=64)
    (64, 4)
    """
    if config.global_batch_size is not None:  # batch has the rows of all micro-batches
        return batch, layout(batch, config.per_device_train_batch_size, processes=1)[1]
    return batch * config.gradient_accumulation_steps, config.gradient_accumulation_steps


def micro_batch(config: MLMConfig) -> int:
    """Return what the rows of a smaller step are a multiple of, if they are more.

    A global batch is divided into equal micro-batches, so 13 rows that are too many for one would be 13 of them.
    """
    return 1 if config.global_batch_size is None else config.per_device_train_batch_size


def smallest_batch(config: MLMConfig, longest_row: int, mean_row: float) -> int:
    """Return the size of the smallest steps that still help: of SMALLEST rows per process, by their mean tokens.

    >>> smallest_batch(MLMConfig(use_cpu=True, tokens_per_batch=4096), longest_row=512, mean_row=124.2)
    993
    """
    if config.tokens_per_batch is None:
        return SMALLEST
    return max(longest_row, int(SMALLEST * config.world_size * mean_row))


@dataclass(frozen=True)
class Plan:
    """What fits into a time: a number of `steps`, `seconds_per_step` each, of `batch` rows per process, or tokens."""

    steps: int
    batch: int
    seconds_per_step: float


def fit(
    minutes: float,
    at_most: int,
    batch: int,
    time_step: Callable[[int], float],
    smallest: int = SMALLEST,
    multiple: int = 1,
) -> Plan:
    """Return the number of steps, and the batch size, that fit into a time.

    If fewer than FEWEST steps of the requested batch fit (the paragraphs are long, or the machine is slow), the batch
    is made smaller until they fit, down to the smallest: the same tokens in more steps.

    Args:
        minutes: the time.
        at_most: the most steps to take; -1 for no limit.
        batch: the rows of a step in each process, or all its tokens.
        time_step: returns the seconds that a step with this number of them takes.
        smallest: the fewest of them that still help.
        multiple: what a smaller batch is a multiple of, if it is larger.

    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.01 * rows)
    Plan(steps=130, batch=32, seconds_per_step=0.32)
    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.1 + 0.05 * rows)
    Plan(steps=100, batch=10, seconds_per_step=0.6)
    >>> fit(1, at_most=130, batch=64, time_step=lambda rows: 0.1 + 0.025 * rows, multiple=16)
    Plan(steps=120, batch=16, seconds_per_step=0.5)
    """
    enough = FEWEST if at_most < 1 else min(FEWEST, at_most)
    seconds = time_step(batch)
    while (steps := int(60 * minutes / seconds)) < enough and batch > smallest:
        # A step's fixed cost does not shrink with its rows, so it is timed again, and may shrink further.
        batch = min(batch - 1, math.ceil(batch * steps / enough))
        batch = max(smallest, batch - batch % multiple if batch > multiple else batch)
        seconds = time_step(batch)
    return Plan(max(1, steps if at_most < 1 else min(steps, at_most)), batch, seconds)


class _Clock(TrainerCallback):
    """Record when each step ends; stop early if the steps are so slow that one must suffice."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._times: list[float] = []

    def timed(self) -> list[float]:
        """Return the seconds of each step, without the warm-up steps."""
        seconds = np.diff(self._times).tolist()
        return seconds[min(self._warm_up, len(seconds) - 1) :]

    def _note(self, args: TrainingArguments) -> None:
        if args.device.type != "cpu":
            torch.accelerator.synchronize()
        self._times.append(time.perf_counter())

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._times:
            self._note(args)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._note(args)
        slow = len(self._times) > 2 and self._times[-1] - self._times[0] > SECONDS
        if args.world_size == 1 and slow:  # with several processes, one might stop alone
            control.should_training_stop = True
