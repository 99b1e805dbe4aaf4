"""Progress during training: the epoch, a bar, the loss."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..report.printing import say
from ..report.wording import how_long

#: The run's duration is estimated from this many steps, after those that warm up.
_TOLD_FROM = 3


class TrainingProgress(TrainerCallback):
    """A bar with the epoch before it and the loss after it; without a terminal, about twenty plain lines.

    After a few steps it prints how long the run will take, unless `told` says that this was printed before.
    """

    told = False

    #: The number of steps at the beginning that take longer than the others.
    warm_up = 1

    def __init__(self) -> None:
        self._bar: Any = None
        self._loss: float | None = None
        self._started = 0.0
        self._first = 0  # the step that training began at; more than 0 in a resumed run
        self._warm = 0.0  # when the last step of the warm-up was taken

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        self._started = time.monotonic()
        self._first = state.global_step
        if state.is_world_process_zero and sys.stderr.isatty() and not args.disable_tqdm:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    # Trainer logs after on_step_end, so a step's loss is shown when the next one begins.
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the progress so far."""
        counted = state.global_step - self._first - self.warm_up
        if counted == 0:
            self._warm = time.monotonic()
        if not self.told and state.is_world_process_zero and counted == _TOLD_FROM:
            self._tell_time(state.max_steps - self._first)
        self._show(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the last step and close the bar."""
        self._show(state)
        self.close()

    def close(self) -> None:
        """Close the bar, also if training was interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _tell_time(self, steps: int) -> None:
        said = how_long(steps, (time.monotonic() - self._warm) / _TOLD_FROM)
        if self._bar is not None:
            self._bar.write(said)  # above the bar
        else:
            say(said)

    def _show(self, state: TrainerState) -> None:
        step, total = state.global_step, state.max_steps
        if not state.is_world_process_zero or step == self._first:
            return
        epochs = max(1, math.ceil(state.num_train_epochs))
        epoch = max(1, math.ceil((state.epoch or 0) - 1e-9))  # the epoch of the step just taken
        loss = "not logged yet" if self._loss is None else f"{self._loss:.3f}"
        if self._bar is not None:
            try:
                self._bar.set_description(f"Epoch {epoch}/{epochs}", refresh=False)
                self._bar.set_postfix(loss=loss, refresh=False)
                self._bar.update(step - self._bar.n)
            except OSError:  # the terminal was closed, but the run continues
                self._bar.disable, self._bar = True, None
        elif step == total or step % max(1, total // 20) == 0:
            rate = (step - self._first) / max(1e-9, time.monotonic() - self._started)
            say(f"epoch {epoch}/{epochs}  step {step}/{total}  loss {loss}  {rate:.2f} it/s")
