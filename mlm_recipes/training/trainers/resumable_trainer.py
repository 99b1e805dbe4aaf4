"""`ResumableTrainer`: resumes a run exactly, or says why it is another run."""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

from transformers import TrainerState
from transformers.trainer_utils import TrainOutput

from ...checkpoints.resume_contract import (
    ResumeContract,
    find_checkpoint,
    refuse_to_replace,
    resume_request,
    saved_terms,
)
from ...checkpoints.storage import newest_whole
from ...checkpoints.tensor_files import require_tensors_only
from ...data.streams import START, TextStream
from ...masking.collator import DataCollatorForMaskedLM
from ...metrics_file import Resumed
from ...model.renamed_weights import load_renamed
from ..batches.kept_batch import Layout, follow, layout_of, only_processes_differ
from ..batches.loader_workers import end_workers
from ..batches.streamed_rows import StreamState
from ..callbacks.best_model import check_early_stopping_callbacks, name_best
from ..callbacks.callback_states import restore_states
from ..callbacks.early_stopping import had_stopped, start_anew
from ..config import own_fields
from ..distributed.processes import from_main
from ..faults.nonfinite import SkippedSteps
from ..speed.cpu_allocator import kept_memory
from .ordered_trainer import OrderedTrainer

logger = logging.getLogger(__name__)


class ResumableTrainer(OrderedTrainer):
    """OrderedTrainer that resumes a run exactly, since its steps depend only on the seed.

    A subclass returns from `identity` what a resumed run must have in common with the interrupted one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._divided: tuple[Layout, Layout] | None = None  # the config's layout of a batch, and what it became
        if self.args.global_batch_size is not None:
            self._follow(self.args.global_batch_size)
        self._contract = ResumeContract(  # args may be replaced
            self._values_as_given,
            self.identity,
            lambda: {name: item.default for name, item in own_fields().items()},
        )
        self._absent: list[str] = []  # weights that were not in a checkpoint by their names
        self.add_callback(self._contract)

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what identifies this run, besides the config's values, as plain data."""

    @property
    def epochs(self) -> float:
        """The number of epochs completed; a stream counts how many times its end was reached."""
        return self._stream.place.epoch if isinstance(self.train_dataset, TextStream) else self.state.epoch or 0.0

    @property
    def resumed(self) -> list[Resumed]:
        """An entry for each time this run was resumed: the step it continued from, and the values that changed."""
        return self._contract.resumed

    def check_resume(self, checkpoint: Path) -> tuple[str, int]:
        """Return a description of the permitted differences from a checkpoint's run, and the number of steps left.

        Raises: ValueError if this is a different run, or one that ends before the checkpoint, or if reading the
        checkpoint could run code (`mlm_recipes.checkpoints.tensor_files`).
        """
        require_tensors_only(checkpoint)
        saved = saved_terms(checkpoint)
        if (
            saved is not None
            and self.args.tokens_per_batch is None
            and only_processes_differ(saved["values"], self.args)
        ):
            batch = saved["facts"].get("global batch")  # not of a run whose steps have so many tokens
            if batch is not None:
                self._follow(batch)
        changed = self._contract.check(checkpoint, self.args.change_on_resume or ())
        step = self.resumed[-1]["step"]
        total = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        if step > total:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} was saved after {step} steps, and the run has only "
                f"{total}. Accepted: a run with at least as many steps. Choose an earlier checkpoint, or raise "
                "max_steps or num_train_epochs."
            )
        return changed, total - step

    def _follow(self, global_batch: int) -> None:
        """Let steps have so many examples, with the processes that there are."""
        given, self.args = layout_of(self.args), follow(self.args, global_batch)
        if layout_of(self.args) != given:
            self._divided = given, layout_of(self.args)
            self._train_batch_size = self.args.train_batch_size

    def _values_as_given(self) -> dict[str, Any]:
        """Return the config's values for a checkpoint, from which any number of processes may go on."""
        values = self.args.to_recipe()
        if self._divided is not None and layout_of(self.args) == self._divided[1]:
            values |= self._divided[0]
        return values

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, or resume a run from a checkpoint: its path, its run folder, or True for the newest one.

        "auto" resumes from the newest one if there is any. The default is `args.resume_from_checkpoint`.

        On a CPU, a resumed run ends with the same weights as an uninterrupted one, bit for bit.

        Raises: FileNotFoundError if there is no checkpoint; ValueError if it belongs to another run
        (`mlm_recipes.checkpoints.value_kinds` lists which values must stay the same, and which may change).
        """
        if self.args.train_minutes is not None:
            raise ValueError(
                f"train_minutes: received {self.args.train_minutes:g}. Accepted here: None, since the number of steps "
                "is chosen before a trainer is created. Pass max_steps, or call mlm_recipes.train(train_minutes=...)."
            )
        if self.args.global_batch_size is not None:
            self._follow(self.args.global_batch_size)  # args may be other ones by now
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        asked = resume_request(resume_from_checkpoint)
        if asked == "auto":
            newest = from_main(lambda: newest_whole(Path(str(self.args.output_dir))))
            asked = False if newest is None else str(newest)
        check_early_stopping_callbacks(self.args, self.callback_handler.callbacks)
        self._best.beside = None
        if asked is False:
            if self.args.save_strategy != "no":
                from_main(lambda: refuse_to_replace(str(self.args.output_dir)))
            self._contract.resumed, self._skipped.steps, self._stream_start = [], [], START
            self._contract.other_measure = False
            return self._train(None, *args, **kwargs)
        checkpoint = from_main(lambda: find_checkpoint(asked, str(self.args.output_dir)))
        changed, left = self.check_resume(checkpoint)
        if changed:
            logger.warning("Resuming with changed values: %s.", changed)
        if not isinstance(self.data_collator, DataCollatorForMaskedLM):
            logger.warning(
                "%s draws its masks from a generator, so the resumed run will have different masks from the "
                "interrupted one; with DataCollatorForMaskedLM it has the same.", type(self.data_collator).__name__
            )  # fmt: skip
        self._skipped.steps = SkippedSteps.saved_in(checkpoint)
        self._best.beside = checkpoint.parent
        stopped = from_main(lambda: had_stopped(checkpoint, self.callback_handler.callbacks))
        stopped = stopped and not self._contract.other_measure  # which is counted anew
        if left and stopped:
            logger.warning(
                "%s is of a run that had stopped early, so nothing is left to train. To go on, raise "
                "early_stopping_patience (with change_on_resume).", checkpoint,
            )  # fmt: skip
        if not left or stopped:  # upstream would take one more step (transformers 5.23)
            self._load_from_checkpoint(str(checkpoint))
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            self._load_callback_state()
            name_best(self.state, Path(str(self.args.output_dir)), checkpoint.parent)
            if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
                self._load_best_model()
            return TrainOutput(self.state.global_step, 0.0, {})
        if isinstance(self.train_dataset, TextStream):
            self._stream_start = StreamState.saved_in(checkpoint)
        return self._train(str(checkpoint), *args, **kwargs)

    def _train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        try:
            with kept_memory() if self.args.device.type == "cpu" else nullcontext():
                return super().train(*args, **kwargs)
        finally:
            end_workers(self._train_loader)

    def _load_callback_state(self) -> None:
        ours = (ResumeContract, SkippedSteps, StreamState)  # each reads its own state
        restore_states(self.callback_handler.callbacks, cast(Any, self.state.stateful_callbacks), ours)
        if self._contract.other_measure:
            start_anew(self.args, self.state, self.callback_handler.callbacks)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_renamed(self.model if model is None else model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_renamed(self.model, str(self.state.best_model_checkpoint))

    def _load_renamed(self, model: Any, checkpoint: str) -> None:
        absent, self._absent = self._absent, []
        if absent:
            load_renamed(model, checkpoint, absent)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # A tied weight is stored once, under its other name; upstream reports it missing at every resume
        # (https://github.com/huggingface/transformers/issues/27972).
        tied = getattr(self.model, "all_tied_weights_keys", {})
        self._absent = [name for name in load_result.missing_keys if name not in tied]
        if not self._absent:
            super()._issue_warnings_after_load(load_result._replace(missing_keys=[]))
