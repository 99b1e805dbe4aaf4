"""Trains a few steps on a few rows, for `verify`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset

from ..data.mixed_rows import MixedRows
from ..model.rounding_bounds import rounding_bound, summed_terms
from ..training.batches.mixed_order import all_rows
from ..training.callbacks.progress import TrainingProgress
from ..training.config import MLMConfig
from ..training.short_run import cut_short, schedule_values
from ..training.trainer import MLMTrainer
from .prepare import Run, prepare

# Small enough for a large model on a laptop. Ten examples in steps of four: 4, 4, 2, and the next epoch's first four.
EXAMPLES, BATCH, STEPS, KILLED_AFTER, LENGTH = 10, 4, 4, 2, 64


def cut_down(config: MLMConfig, folder: Path) -> MLMConfig:
    """Return the recipe, cut down to a few steps of a few short rows, each of them logged.

    A schedule of the masked share has only those phases that come in so few steps: the recipe's own run is longer.
    """
    schedule = config.probability_schedule()
    return cut_short(
        config,
        STEPS,
        output_dir=str(folder),
        max_length=None if (config.max_length or 512) > LENGTH else config.max_length,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        global_batch_size=None,
        eval_delay=0,
        logging_strategy="steps",
        logging_steps=1,
        save_steps=KILLED_AFTER,
        save_total_limit=None,
        save_only_model=False,
        **({} if schedule is None else schedule_values(schedule.within(STEPS))),
    )


@dataclass
class Bench:
    """The run that is verified, with only its first few rows."""

    run: Run
    rows: Dataset | MixedRows

    @classmethod
    def of(cls, config: MLMConfig) -> Bench:
        """Load the model and the text that the config names, and cut the text down."""
        run = prepare(config, default_length=LENGTH)
        run = replace(run, config=replace(run.config, max_length=run.max_length))
        if isinstance(run.train_rows, MixedRows):
            return cls(run, run.train_rows.few(EXAMPLES - len(run.train_rows.parts)))
        assert isinstance(run.train_rows, Dataset), "streaming is refused"
        return cls(run, run.train_rows.select(range(min(EXAMPLES, len(run.train_rows)))))

    @property
    def loss_bound(self) -> float:
        """The largest relative difference between losses, or logits, that float32 rounding can cause."""
        return rounding_bound(summed_terms(self.run.model, BATCH * LENGTH))

    @property
    def gradient_bound(self) -> float:
        """The same for gradients."""
        return rounding_bound(summed_terms(self.run.model, BATCH * LENGTH, passes=3))

    def trainer(self, **changes: Any) -> MLMTrainer:
        """Return a trainer with a copy of the model, since accelerate prepares a model only once, for one precision."""
        trainer = MLMTrainer(
            copy.deepcopy(self.run.model),
            args=replace(self.run.config, **changes),
            train_dataset=self.rows,
            eval_dataset=all_rows(self.rows),
            processing_class=self.run.tokenizer,
        )
        trainer.remove_callback(TrainingProgress)
        return trainer

    def train(
        self, resume: Path | None = None, callback: Any = None, **changes: Any
    ) -> tuple[MLMTrainer, torch.Tensor]:
        """Train from the original weights or a checkpoint; return the trainer, and all its weights as one vector."""
        trainer = self.trainer(**changes)
        if callback is not None:
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=resume or False)
        return trainer, torch.cat(
            [weight.detach().float().cpu().flatten() for weight in cast(Any, trainer.model).parameters()]
        )
