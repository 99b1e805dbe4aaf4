"""Reports a run to Ray Train: the figures of every log, and each checkpoint.

Ray's own RayTrainReportCallback (ray 2.60) reports when a checkpoint is saved, and nothing between two of them. Each
worker copies the whole checkpoint, first aside and then to the same place; ours is one of all processes, so one of them
copies it, once.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...sources.missing_packages import needs
from ..distributed.processes import highest


class RayReport(TrainerCallback):
    """Report a run to Ray Train, in a function that its TorchTrainer runs: `train(callbacks=[RayReport()])`.

    A report has the newest figures with their `step` and `epoch`, and as `logged` a list of those of every log since
    the last one. It is made every `seconds` of training, and for what is measured before and after. Ray fetches about
    one report a second (1.1 s each, measured with ray 2.60), and a worker with more of them waits.

    A checkpoint is reported once it is complete, with the figures of its own step; the main process copies it into the
    storage of the Ray run.

    Raises: MissingPackageError (an ImportError and a ValueError) without Ray Train.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        try:
            self._ray = import_module("ray.train")
        except ImportError as error:
            accepted = "Accepted: an environment with the extra mlm-recipes[ray]."
            raise needs("RayReport", ["ray[train]"], accepted) from error
        self._seconds, self._reported_at, self._training = seconds, 0.0, False
        self._newest: dict[str, Any] = {}
        self._logged: list[dict[str, Any]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From now on, report every few seconds."""
        self._training = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report what is left."""
        self._training = False
        if self._logged:
            self._report()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Report the figures of a log, now or later; all workers report together, when it is time for any of them."""
        figures = {**logs, "step": state.global_step, "epoch": state.epoch}
        self._newest = self._of_step(state) | figures
        self._logged.append(figures)
        if not self._training or any(highest(int(time.monotonic() - self._reported_at >= self._seconds))):
            self._report()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report a checkpoint."""
        checkpoint = None
        if state.is_world_process_zero:
            saved = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            checkpoint = self._ray.Checkpoint.from_directory(str(saved.resolve()))
        self._ray.report(self._of_step(state), checkpoint=checkpoint)

    def _of_step(self, state: TrainerState) -> dict[str, Any]:
        """Return the figures of this step only: an earlier step's would be taken for those of the checkpoint."""
        here = self._newest.get("step") == state.global_step
        return self._newest if here else {"step": state.global_step, "epoch": state.epoch}

    def _report(self) -> None:
        self._ray.report({**self._newest, "logged": self._logged})
        self._logged, self._reported_at = [], time.monotonic()
