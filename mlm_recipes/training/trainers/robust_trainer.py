"""`RobustTrainer`: transformers' Trainer for unattended runs, which handles kills, full disks and full memory."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError

from ...checkpoints import storage as checkpoints
from ...checkpoints.tensor_files import PICKLED_ARGUMENTS
from ...checkpoints.tokenizer_files import use_known_class
from ...sources.escaping import first_line
from ..callbacks.asked_stop import AskedStop
from ..callbacks.best_model import BestCheckpoint, logged_name, missing_measure, name_best
from ..callbacks.callback_states import forget_lists
from ..callbacks.epoch_end import EpochEnd
from ..distributed.agreed_control import agree_on
from ..distributed.processes import all_or_none, from_main, gathered
from ..faults.out_of_memory import MicroBatchParts
from ..faults.stop_signals import NOT_HANDLED, Interrupted, StopSignals, are_delivered
from .adapter_trainer import saved_weights
from .sharded_trainer import ShardedTrainer

logger = logging.getLogger(__name__)

#: Bytes of a checkpoint besides weights and optimizer: the tokenizer, the state, the log.
_BESIDES = 16 << 20


#: The errors that Python, torch and safetensors raise if a checkpoint's file cannot be written.
_NOT_WRITTEN = (OSError, RuntimeError, SafetensorError)


class RobustTrainer(ShardedTrainer):
    """ShardedTrainer with atomic checkpoints, and a loop that stops in time.

    - A checkpoint is written to a temporary folder, and moved to its place when all processes have written their part
      (`mlm_recipes.checkpoints.storage`). A full disk ends the run and leaves the previous checkpoint undamaged.
    - On SIGINT, SIGTERM or SIGUSR1 to any process, all processes finish the step, save, and raise `Interrupted`.
    - A micro-batch for which memory runs out is computed in parts (`mlm_recipes.training.faults.out_of_memory`).
    """

    #: True for a run that is discarded: at a stop signal it saves nothing and raises KeyboardInterrupt.
    leaves_nothing = False

    _staging: Path | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked_stop, self._signals = AskedStop(), StopSignals()
        self._saved_at: int | None = None
        self._parts = MicroBatchParts()
        self._epoch_end = EpochEnd()
        self._best = BestCheckpoint()
        for callback in (self._asked_stop, self._signals, self._parts, self._epoch_end, self._best):
            self.add_callback(callback)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; if one process cannot, all stop.

        Raises: OSError if it cannot be written.
        """
        try:
            all_or_none(lambda: super(RobustTrainer, self).save_model(output_dir, _internal_call))
        except _NOT_WRITTEN as error:
            if _internal_call:
                raise  # part of a checkpoint; _save_checkpoint names it in its message
            raise OSError(
                f"save: the model could not be written to {str(output_dir or self.args.output_dir)!r}: "
                f"{first_line(error)}. Accepted: a disk with enough space. Free some space, and resume from the newest "
                "checkpoint with --resume_from_checkpoint true, if there is one."
            ) from error

    def _save(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        super()._save(output_dir, *args, **kwargs)
        folder = Path(output_dir or str(self.args.output_dir))
        (folder / PICKLED_ARGUMENTS).unlink(missing_ok=True)
        if self.args.should_save:  # upstream calls this in every process, and only one of them writes
            use_known_class(folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run = Path(super()._get_output_dir(trial))
        place = run / f"checkpoint-{self.state.global_step}"
        staged = run / checkpoints.STAGED / place.name
        try:
            all_or_none(lambda: self._make_room(run))
            all_or_none(lambda: self._stage(model, trial, staged, place))
            all_or_none(lambda: self._commit(run, staged, place))
        except _NOT_WRITTEN as error:
            if self.args.should_save:
                checkpoints.clear_staged(run)
            raise OSError(self._why_not_saved(run, place, error)) from error
        self._saved_at = self.state.global_step

    def _make_room(self, run: Path) -> None:
        if self.args.should_save:
            run.mkdir(parents=True, exist_ok=True)
            checkpoints.clear_staged(run)
            checkpoints.require_space(run, self._bytes_to_save(run))

    def _stage(self, model: Any, trial: Any, staged: Path, place: Path) -> None:
        """Let upstream write this process's part of the checkpoint to the temporary folder."""
        self._staging = staged.parent
        before = self.state.best_model_checkpoint
        forget_lists(cast(Any, self.state.stateful_callbacks))
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
            self.state.best_model_checkpoint = before
        name_best(self.state, place.parent, being_saved=place)
        if self.args.should_save:
            self.state.save_to_json(str(staged / "trainer_state.json"))

    def _commit(self, run: Path, staged: Path, place: Path) -> None:
        if not self.args.should_save:
            return
        best = self.state.best_model_checkpoint
        checkpoints.commit(staged, place)
        checkpoints.rotate(run, self.args.save_total_limit, place, None if best is None else Path(best))
        checkpoints.clear_staged(run)

    def _bytes_to_save(self, run: Path) -> int:
        there = checkpoints.list_checkpoints(run)
        if there:
            return checkpoints.size_of(there[-1])
        model: Any = self.model
        tensors = [*saved_weights(model), *model.buffers()]
        if not self.args.save_only_model and self.optimizer is not None:
            for state in self.optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return _BESIDES + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _why_not_saved(self, run: Path, place: Path, error: Exception) -> str:
        before = checkpoints.list_checkpoints(run)
        kept = f"{before[-1]} is undamaged" if before else "no checkpoint was saved before"
        return (
            f"save: {str(place)!r} could not be written: {first_line(error)}. It needs about "
            f"{self._bytes_to_save(run):,} bytes; {kept}. Accepted: a disk with enough space for one checkpoint more "
            "than --save_total_limit keeps. Free some space, and resume with --resume_from_checkpoint true."
        )

    # The best model

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        try:
            found = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
            agree_on(self.control)
            return found
        except KeyError as error:
            if "metric_for_best_model" not in str(error):  # not the one that a schedule follows
                raise
            here = (entry for entry in self.state.log_history if entry["step"] == self.state.global_step)
            returned = {name: None for entry in here for name in entry}
            raise ValueError(missing_measure(str(self.args.metric_for_best_model), returned)) from None

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        metric = self.args.metric_for_best_model
        if metric is not None and logged_name(metric) not in metrics:
            raise ValueError(missing_measure(metric, metrics))
        is_best = super()._determine_best_metric(metrics, trial)
        name_best(self.state, Path(self._get_output_dir(trial)))
        return is_best

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        wrong = from_main(lambda: checkpoints.fault(best))
        if wrong is not None:
            raise ValueError(
                f"load_best_model_at_end: {str(best)!r} is incomplete or damaged: {wrong}. Accepted: a complete "
                "checkpoint. Use the newest: --resume_from_checkpoint true --load_best_model_at_end false."
            )
        super()._load_best_model()

    def _require_one_disk(self) -> None:
        """Raise ValueError if a process does not see the main one's files: checkpoints would be incomplete."""
        folder = Path(str(self.args.output_dir))
        if self.args.world_size == 1 or self.leaves_nothing:
            return
        mark = folder / f".seen-{from_main(lambda: os.urandom(8).hex())}"
        try:
            from_main(lambda: _touch(mark))
            blind = [rank for rank, sees in enumerate(gathered(mark.exists())) if not sees]
        finally:
            if self.is_world_process_zero():
                mark.unlink(missing_ok=True)
        if blind:
            raise ValueError(
                f"output_dir: {str(folder)!r} is not the same folder in all processes: those with rank "
                f"{', '.join(map(str, blind))} do not see what the main process writes there. Accepted: a folder on a "
                "disk that all machines share. Name one with --output_dir."
            )

    # Signals

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does; after a stop signal, save the state and raise Interrupted."""
        self._saved_at = None
        for callback in (self._asked_stop, self._signals, self._epoch_end):  # after those that the caller has added
            self.remove_callback(callback)
            self.add_callback(callback)
        if not are_delivered() and not self.leaves_nothing and self.is_world_process_zero():
            logger.warning(NOT_HANDLED)
        self._require_one_disk()
        try:
            with self._signals:
                output = super().train(*args, **kwargs)
                if self._signals.agree():  # since the last step
                    self.stop_now(self.model_wrapped)
                return output
        finally:
            self.is_in_train = False

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, *args: Any, **kw: Any
    ) -> None:
        evaluated = self.control.should_evaluate
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kw)
        self._asked_stop.leave_together(self.control, self._signals.ending, evaluated)
        if self._signals.received and not self._epoch_end.follows:  # then the epoch's own evaluation comes next
            self.stop_now(model, trial)

    def stop_now(self, model: Any, trial: Any = None) -> None:
        """Save the state after the last step, unless it is saved already, and raise Interrupted."""
        if self.leaves_nothing:
            raise KeyboardInterrupt
        if self._saved_at != self.state.global_step:
            self.args = copy.copy(self.args)  # the config is the caller's
            self.args.save_only_model = False  # otherwise the run could not be resumed
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)
        raise Interrupted(
            self._signals.received, Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        )

    # Memory that runs out

    @property
    def micro_batch_parts(self) -> int:
        """The number of parts in which each micro-batch is computed: 1, doubled each time that memory runs out."""
        return self._parts.parts

    def passes(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """Run the forward and backward pass of a micro-batch, or of a part of one, and return its loss."""
        return super().training_step(model, inputs, num_items_in_batch)

    def why_not_splittable(self, num_items_in_batch: Any) -> str | None:
        """Return why a micro-batch cannot be computed in parts, or None if it can."""
        if self.is_fsdp_enabled:
            return "with FSDP several processes pass through the model together"
        return None

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run both passes of a micro-batch and return its loss, in parts if it does not fit into memory."""
        return self._parts.training_step(
            lambda prepared, batch: self.passes(prepared, batch, num_items_in_batch),
            model,
            inputs,
            last=self.accelerator.sync_gradients,
            reason=self.why_not_splittable(num_items_in_batch),
        )


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
