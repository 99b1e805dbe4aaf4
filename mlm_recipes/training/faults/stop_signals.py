"""Stop signals: the current step is finished, a checkpoint is saved, and all processes stop together."""

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

from ..distributed.agreed_control import agree_on
from ..distributed.processes import highest

T = TypeVar("T")

#: Signals that ask a run to stop. SLURM can be configured to send SIGUSR1 some time before the limit.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

#: What a run says whose thread gets no signals.
NOT_HANDLED = (
    f"{', '.join(signal.Signals(number).name for number in SIGNALS)}: not handled in this run, which is not in the "
    "main thread, the only one to which Python delivers signals. A callback can stop it: "
    "control.should_training_stop = True."
)

#: The exit code of a run that stopped on request, with a checkpoint to resume from (EX_TEMPFAIL in sysexits).
EXIT_CODE = 75

#: Seconds in which a signal that torchrun forwards is the one that its processes already received, not a second one.
ECHO = 5.0


def are_delivered() -> bool:
    """Tell whether signals reach this thread.

    >>> are_delivered()
    True
    """
    return threading.current_thread() is threading.main_thread()


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and its state is saved in `checkpoint`."""

    def __init__(self, received: int, checkpoint: Path) -> None:
        name = signal.Signals(received).name
        super().__init__(
            f"stopped by {name}, after saving {checkpoint}. To resume: mlm-recipes train {checkpoint.parent} "
            "--resume_from_checkpoint true"
        )
        self.signal = received
        self.checkpoint = checkpoint


def depends_on_metrics(args: TrainingArguments) -> bool:
    """Tell whether skipping an evaluation would change the run, through its schedule, its best model or its length.

    Each of these needs `metric_for_best_model`, which transformers sets for such schedules.
    """
    return args.metric_for_best_model is not None


class InWorkers:
    """For a data loader's `worker_init_fn`: during training, its workers ignore stop signals.

    A terminal and SLURM send signals to all processes, and torch raises an error if a worker dies. Outside training,
    SIGTERM ends a worker as usual, since Python ends remaining workers that way.
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
    """Within `with`, treat SIGINT, SIGTERM and SIGUSR1 as requests to stop after the current step.

    A second signal gets its previous handler. Nothing is done outside the main thread, since Python delivers signals
    only there, and nothing to signals that are ignored, such as under nohup.

    `received` is the number of the signal that any process has received, 0 for none; all processes learn of it at the
    end of the same step, and of what the callbacks of any process ask for. `ending`: whether one has asked for the end
    of the run, as far as all processes know.
    """

    def __init__(self) -> None:
        self.received = 0
        self.ending = False
        self._mine = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self.in_workers = InWorkers()

    def __enter__(self) -> StopSignals:
        self.received = self._mine = 0
        self.in_workers.training.fill_(1)
        if are_delivered():
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
        """Return whether any process was asked to stop. All processes must call this, in the same order."""
        if not self.received:
            self.received = highest(self._mine)[0]
        return self.received != 0

    def until_stopped(self, things: Iterable[T]) -> Iterator[T]:
        """Yield `things` until any process is asked to stop; every process must have the same number of them."""
        for thing in things:
            if self.agree():
                return
            yield thing

    # This callback runs after all those that decide what to do after this step (RobustTrainer.train).
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """If any process was asked to stop, evaluate only if the run depends on its measurements."""
        self.received = agree_on(control, self._mine)
        self.ending = control.should_training_stop
        if self.received:
            control.should_evaluate &= depends_on_metrics(args)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Do the same for the evaluation at the end of an epoch."""
        agree_on(control)
        self.ending = control.should_training_stop
        if self.received:
            control.should_evaluate &= depends_on_metrics(args)
