"""How fast this machine trains: a few steps, timed on a model that is thrown away."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..training.config import MLMConfig
from ..training.processes import from_main
from ..training.progress import TrainingProgress
from ..training.short_run import cut_short
from ..training.trainer import MLMTrainer

#: The seconds after which one timed step has to do.
SECONDS = 20.0

#: Where there is room for fewer steps than this, more and smaller ones teach more in the same time (docs/LOG.md); below
#: so many rows it no longer pays.
FEWEST, SMALLEST = 100, 8


def time_steps(
    model: Any, config: MLMConfig, rows: Any, tokenizer: Any, warm_up: int, timed: int, quiet: bool = False
) -> list[float]:
    """Take a run's own first steps and return the seconds of each timed one; the same in all processes.

    The model is trained by it, so hand over a copy that nobody needs. Nothing is logged, saved or reported.

    Args:
        model: the model.
        config: the run's; its batch size, precision, optimizer and fast paths are what is timed.
        rows: what it trains on.
        tokenizer: the model's.
        warm_up: steps before the clock counts: a first step allocates, compiles and fills caches.
        timed: steps after these. One has to do where they take longer than SECONDS together.
        quiet: warn of nothing, where another trainer of the same values does so.

    Raises: KeyboardInterrupt if the process is told to stop meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-pace-") as folder, _hushed() if quiet else nullcontext():
        args = cut_short(config, warm_up + timed, output_dir=folder, logging_strategy="no")
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


@dataclass(frozen=True)
class Plan:
    """What fits into a time: so many `steps`, of `batch` rows in each process, each `seconds_per_step` long."""

    steps: int
    batch: int
    seconds_per_step: float


def fit(minutes: float, at_most: int, batch: int, time_step: Callable[[int], float]) -> Plan:
    """Return the number of steps, and the batch, that fit into a time.

    Where the batch that was asked for leaves room for fewer than FEWEST steps (the paragraphs are long, or the machine
    is slow), it is made smaller until there is room for them, down to SMALLEST rows: the same tokens in more steps.

    Args:
        minutes: the time.
        at_most: steps that are enough; -1 where there is no limit.
        batch: rows of a step in each process.
        time_step: returns the seconds that a step of so many rows takes.

    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.01 * rows)
    Plan(steps=130, batch=32, seconds_per_step=0.32)
    >>> fit(1, at_most=130, batch=32, time_step=lambda rows: 0.1 + 0.05 * rows)
    Plan(steps=100, batch=10, seconds_per_step=0.6)
    """
    enough = FEWEST if at_most < 1 else min(FEWEST, at_most)
    seconds = time_step(batch)
    while (steps := int(60 * minutes / seconds)) < enough and batch > SMALLEST:
        # What a step costs besides its rows does not shrink with them; so it is timed again, and may shrink once more.
        batch = max(SMALLEST, min(batch - 1, math.ceil(batch * steps / enough)))
        seconds = time_step(batch)
    return Plan(max(1, steps if at_most < 1 else min(steps, at_most)), batch, seconds)


class _Clock(TrainerCallback):
    """Note when each step ends; stop where steps are so slow that one has to do."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._times: list[float] = []

    def timed(self) -> list[float]:
        """Return the seconds of each step, those before the clock counts left out."""
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
        if args.world_size == 1 and slow:  # of several processes one might stop alone
            control.should_training_stop = True
