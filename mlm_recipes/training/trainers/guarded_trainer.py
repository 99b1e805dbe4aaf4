"""`GuardedTrainer`: no update is made with a loss or gradient that is not finite, and nothing waits for the GPU."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers.trainer_pt_utils import nested_gather

from ...checkpoints.storage import list_checkpoints
from ..distributed.processes import from_main, gathered
from ..faults.nonfinite import SkippedSteps, refusal
from ..optimization.muon import MuonWithAdamW
from ..speed.late_values import LateValues, reads_late
from .robust_trainer import RobustTrainer

logger = logging.getLogger(__name__)


@dataclass
class _Log:
    """What is logged of the steps after `since`, up to the one that it belongs to."""

    since: int
    epoch: float | None
    learning_rate: float
    start_time: float | None
    loss: LateValues  # the sum over these steps, shape (1,)


@dataclass
class _Step:
    """A step whose numbers have not been read yet."""

    number: int  # from 1
    learning_rate: float
    values: LateValues  # the gradient's norm and each micro-batch's loss in this process, shape (1 + micro-batches,)
    guarded: bool  # whether the optimizer leaves the weights unchanged by itself if the norm is not finite
    log: _Log | None = None


class GuardedTrainer(RobustTrainer):
    """RobustTrainer that makes no update with numbers that are not finite, without waiting for the GPU.

    If a loss or gradient is not finite in any process, no process makes the update: all raise ValueError, or skip the
    step (`args.on_nonfinite`).

    On a CPU the gradient's norm is read before the update. On a GPU that would stop the stream of work in every step.
    There the optimizer decides on the device: torch's fused AdamW, and Muon with it, change nothing if their attribute
    `found_inf` is 1, and divide the gradients by `grad_scale`, which clips them; float16's scaler uses the same. The
    norm and the loss are read a step later, before the next update; and at once before anything is saved, evaluated or
    finished. With other optimizers the norm is read before the update there too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._skipped = SkippedSteps()
        self.add_callback(self._skipped)
        self._forget_step()

    def _forget_step(self) -> None:
        self._weights: list[torch.nn.Parameter] | None = None
        self._losses: list[torch.Tensor] = []  # of this step's micro-batches so far
        self._step: _Step | None = None
        self._loss_before: torch.Tensor | None = None  # the sum of losses to log, without this step's

    @property
    def skipped_steps(self) -> list[int]:
        """The steps that were skipped because of a loss or gradient that was not finite."""
        return self._skipped.steps

    def examples_of(self, step: int, micro_batch: int) -> str:
        """Return, for a message, which examples a micro-batch of a step, counted from 0, has in this process."""
        return f"micro-batch {micro_batch + 1}"

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as RobustTrainer does."""
        self._forget_step()
        try:
            return super().train(*args, **kwargs)
        finally:
            for name in ("found_inf", "grad_scale") if self.optimizer is not None else ():
                vars(_innermost(self.optimizer)).pop(name, None)  # it may be the caller's

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run both passes of a micro-batch and return its loss."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._losses.append(loss)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        if not self._decides_on_device:
            return super()._clip_grad_norm(model)
        norm = self._norm()
        # Adam divides the gradients by this as it reads them, instead of in a pass over all of them.
        _innermost(self.optimizer).grad_scale = ((norm + 1e-6) / self.args.max_grad_norm).clamp(min=1.0)
        return norm

    def _norm(self) -> torch.Tensor:
        """Return the norm of all gradients together."""
        if self._weights is None:  # walking through all modules in every step takes half a millisecond
            self._weights = list(cast(Any, self.model).parameters())
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        # The optimizer's kernel reads what follows from it as float32, whatever the dtype of the weights.
        return torch.nn.utils.get_total_norm(gradients).float()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        on_device = self._decides_on_device
        norm = self._norm() if grad_norm is None and on_device else super()._get_grad_norm(model, grad_norm)
        losses, self._losses = self._losses, []
        self._read_step()
        if norm is None:
            return norm
        known: torch.Tensor = torch.as_tensor(norm, device=self.args.device).detach()
        values = LateValues(torch.stack([known.double(), *(loss.double() for loss in losses)]))
        step = _Step(self.state.global_step + 1, self._get_learning_rate(), values, guarded=on_device)
        finite = known.isfinite()
        self._leave_out_of_mean(finite)
        if on_device:
            _innermost(self.optimizer).found_inf = finite.logical_not().float()
        elif not math.isfinite(values.read()[0]):
            self._leave_out(step)
            if self.accelerator.scaler is None:
                model.zero_grad(set_to_none=True)  # an optimizer skips weights without a gradient
        self._step = step
        return norm

    @property
    def _decides_on_device(self) -> bool:
        """Whether the optimizer itself clips, and changes nothing if `found_inf` is 1, so that nothing is read here."""
        scaled = self.accelerator.scaler is not None or self.is_fsdp_enabled
        if scaled or not reads_late(self.args.device):
            return False
        optimizer = _innermost(self.optimizer)  # torch.optim.AdamW is an Adam too
        if isinstance(optimizer, MuonWithAdamW):
            return optimizer.supports_found_inf
        return isinstance(optimizer, torch.optim.Adam) and all(group["fused"] for group in optimizer.param_groups)

    def _leave_out_of_mean(self, finite: torch.Tensor) -> None:
        """Take the step's loss out of the sum that is logged if the step is not finite; nothing waits for this."""
        before = 0.0 if self._loss_before is None else self._loss_before
        self._tr_loss.copy_(self._tr_loss.where(finite, before))
        self._loss_before = self._tr_loss.clone()

    def _read_step(self) -> None:
        """Read the last step's numbers if they have not been read: stop or note that it was skipped, and log it."""
        step, self._step = self._step, None
        if step is None:
            return
        norm = float(step.values.read()[0])
        if step.guarded and not math.isfinite(norm):
            self._leave_out(step)
        if step.log is not None:
            self._log_step(step.number, norm, step.log)

    def _leave_out(self, step: _Step) -> None:
        """Stop the run or note a skipped step. The norm is the same in all processes, so all do the same."""
        args: Any = self.args
        norm, *losses = step.values.read().tolist()
        mine = [
            f"{loss} in process {args.process_index} ({self.examples_of(step.number - 1, micro_batch)})"
            for micro_batch, loss in enumerate(losses)
            if not math.isfinite(loss)
        ]
        found = [each for some in gathered(mine) for each in some]
        if self.accelerator.scaler is not None and not found:
            return  # gradients overflowed float16: the scaler skips the step and lowers its scale
        before = list(self._skipped.steps)
        if args.on_nonfinite == "skip" and len(before) < args.max_skipped_steps:
            self._skipped.steps.append(step.number)
            logger.warning(
                "Step %d is skipped: the loss or gradient is not finite (%s).", step.number, "; ".join(found) or norm
            )
            return
        newest = from_main(lambda: next(reversed(list_checkpoints(Path(args.output_dir))), None))
        skipped = before if args.on_nonfinite == "skip" else []
        raise ValueError(refusal(step.number, step.learning_rate, found, norm, newest, skipped))

    # Logging

    def _maybe_log_save_evaluate(
        self,
        tr_loss: torch.Tensor,
        grad_norm: Any,
        model: Any,
        trial: Any,
        epoch: float,
        ignore_keys_for_eval: Any,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        state, control = self.state, self.control
        if control.should_log and state.global_step > self._globalstep_last_logged:
            if self._step is None:  # read already, or without a norm
                norm = torch.as_tensor(torch.nan if grad_norm is None else grad_norm, device=tr_loss.device)
                rate = self._get_learning_rate()
                self._step = _Step(state.global_step, rate, LateValues(norm.double().reshape(1)), guarded=False)
            self._step.log = _Log(
                self._globalstep_last_logged,
                state.epoch,
                self._get_learning_rate() if learning_rate is None else learning_rate,
                start_time,
                LateValues(nested_gather(tr_loss, self.args.parallel_mode).mean().reshape(1)),
            )
            tr_loss.zero_()
            self._loss_before = None
            self._globalstep_last_logged = state.global_step
            control.should_log = False
        last = control.should_training_stop or control.should_epoch_stop or state.global_step >= state.max_steps
        if last or control.should_evaluate or control.should_save or not reads_late(self.args.device):
            self._read_step()
        super()._maybe_log_save_evaluate(
            tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate=learning_rate
        )

    def _log_step(self, step: int, norm: float, log: _Log) -> None:
        """Log as upstream does, but the mean loss of those steps that were not skipped."""
        skipped = [each for each in self._skipped.steps if log.since < each <= step]
        computed = step - log.since - len(skipped)
        logs: dict[str, float] = {}
        if computed:
            logs["loss"] = float(log.loss.read()[0]) / computed
            self._total_loss_scalar += logs["loss"] * (step - log.since)
        if step not in skipped and not math.isnan(norm):
            logs["grad_norm"] = norm
        logs["learning_rate"] = log.learning_rate
        self.store_flos()
        with self._as_of(step, log.epoch):
            self.log(logs, log.start_time)

    @contextmanager
    def _as_of(self, step: int, epoch: float | None) -> Iterator[None]:
        """Within `with`, let callbacks see the state after an earlier step: trackers plot against its number."""
        now = self.state.global_step, self.state.epoch
        self.state.global_step, self.state.epoch = step, cast(Any, epoch)
        try:
            yield
        finally:
            self.state.global_step, self.state.epoch = now

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._read_step()
        super()._save_checkpoint(model, trial)


def _innermost(optimizer: Any) -> Any:
    """Return the optimizer that accelerate wraps."""
    return getattr(optimizer, "optimizer", optimizer)
