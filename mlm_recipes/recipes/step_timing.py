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

from ..training.callbacks.progress import TrainingProgress
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.short_run import cut_short
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
        args = cut_short(
            config, warm_up + timed, output_dir=folder, logging_strategy="no", cuda_graphs=False, **all_weights
        )
        clock = _Clock(warm_up)
        trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
        trainer.remove_callback(TrainingProgress)
        trainer.leaves_nothing = True
        trainer.train(resume_from_checkpoint=False)
    return from_main(clock.timed)


@contextmanager
def _hushed() -> Iterator[None]:
    ours = logging.getLogger("mlm_recipes")
    before = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(before)


def batch_size(config: MLMConfig) -> int:
    """Return the size of a step that `with_batch_size` changes: its tokens if it has a number, else rows per process.

    >>> batch_size(MLMConfig(use_cpu=True)), batch_size(MLMConfig(use_cpu=True, tokens_per_batch=4096))
    (16, 4096)
    """
    return config.per_device_train_batch_size if config.tokens_per_batch is None else config.tokens_per_batch


def with_batch_size(config: MLMConfig, batch: int, **changes: Any) -> MLMConfig:
    """Return the config with steps of another size, and further changes."""
    unit = "per_device_train_batch_size" if config.tokens_per_batch is None else "tokens_per_batch"
    return replace(config, **changes | {unit: batch})


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


def fit(minutes: float, at_most: int, batch: int, time_step: Callable[[int], float], smallest: int = SMALLEST) -> Plan:
    """Return the number of steps, and the batch size, that fit into a time.

    If fewer than FEWEST steps of the requested batch fit (the paragraphs are long, or the machine is slow), the batch
    is made smaller until they fit, down to the smallest: the same tokens in more steps.

    Args:
        minutes: the time.
        at_most: the most steps to take; -1 for no limit.
        batch: the rows of a step in each process, or all its tokens.
        time_step: returns the seconds that a step with this number of them takes.
        smallest: the fewest of them that still help.

    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.01 * rows)
    Plan(steps=130, batch=32, seconds_per_step=0.32)
    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.1 + 0.05 * rows)
    Plan(steps=100, batch=10, seconds_per_step=0.6)
    """
    enough = FEWEST if at_most < 1 else min(FEWEST, at_most)
    seconds = time_step(batch)
    while (steps := int(60 * minutes / seconds)) < enough and batch > smallest:
        # A step's fixed cost does not shrink with its rows, so it is timed again, and may shrink further.
        batch = max(smallest, min(batch - 1, math.ceil(batch * steps / enough)))
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
