"""Being told to stop: the step is finished, a checkpoint saved, and all processes end together."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..checkpoints.contract import METRIC_DRIVEN
from .processes import highest

T = TypeVar("T")

#: What asks a run to stop. SIGUSR1 is what SLURM is told to send some time before the limit.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

#: The exit code of a run that stopped because it was asked to, with a checkpoint to go on from (sysexits' EX_TEMPFAIL).
EXIT_CODE = 75

#: Seconds in which torchrun passes on what its processes may have received themselves: the same signal, not a second.
ECHO = 5.0


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and its state is saved in `checkpoint`."""

    def __init__(self, received: int, checkpoint: Path) -> None:
        name = signal.Signals(received).name
        super().__init__(
            f"stopped by {name}, after saving {checkpoint}. To go on: mlm-recipes train {checkpoint.parent} "
            "--resume_from_checkpoint true"
        )
        self.signal = received
        self.checkpoint = checkpoint


def goes_by_what_is_measured(args: TrainingArguments) -> bool:
    """Tell whether to leave an evaluation out would make it another run, by its schedule or its best model."""
    by_best = args.load_best_model_at_end or str(args.save_strategy) == "best"
    return by_best or str(args.lr_scheduler_type) in METRIC_DRIVEN


class InWorkers:
    """For a data loader's `worker_init_fn`: while a model trains, only the main process acts on signals.

    A terminal and SLURM send them to all processes, and torch raises where a worker dies. Otherwise SIGTERM ends a
    worker, as ever: that is how Python ends those that are left.
    """

    def __init__(self) -> None:
        self.training = torch.zeros(1).share_memory_()

    def __call__(self, worker: int) -> None:
        """Set this worker's handlers."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self.training.item():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class StopSignals(TrainerCallback):
    """Between `with` and its end, take SIGINT, SIGTERM and SIGUSR1 for the wish to stop after the step.

    A second signal is obeyed as if this were not here. In another thread than the main one nothing is done,
    since only the main one can be told of signals; nor to a signal that is ignored, as nohup has it.

    `received` is the number of the signal that any process has received, 0 for none; all processes learn of it at the
    end of the same step.
    """

    def __init__(self) -> None:
        self.received = 0
        self._mine = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self.in_workers = InWorkers()

    def __enter__(self) -> StopSignals:
        self.received = self._mine = 0
        self.in_workers.training.fill_(1)
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        self.in_workers.training.zero_()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._mine:
            self._mine, self._since = number, now
        elif "TORCHELASTIC_RUN_ID" not in os.environ or now - self._since > ECHO:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)

    def agree(self) -> bool:
        """Return whether any process has been asked to stop. All must call this, in the same order."""
        if not self.received:
            self.received = highest(self._mine)[0]
        return self.received != 0

    def until_stopped(self, things: Iterable[T]) -> Iterator[T]:
        """Yield `things` for as long as no process has been asked to stop; there must be as many in each."""
        for thing in things:
            if self.agree():
                return
            yield thing

    # Trainer's own callback stands before this one, and has said by now what the step would have had it do.
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Where any process is to stop, evaluate only if the run goes by what is measured."""
        if self.agree():
            control.should_evaluate &= goes_by_what_is_measured(args)
