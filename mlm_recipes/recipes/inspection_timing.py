"""How long a run would take: the times of its first steps, for an inspection."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import torch

from ..inspection_file import RowCounts, Timing
from .inspection_facts import Subject
from .step_timing import batch_size, fit, micro_batch, rows_of_step, smallest_batch, time_steps, with_batch_size

#: Warm-up steps, and timed steps.
_WARM_UP, _TIMED = 2, 5


def timing_of_run(subject: Subject, counts: RowCounts) -> Timing:
    """Take a run's own first steps and return what they took; with `train_minutes`, of the size a run would choose.

    Args:
        subject: the text, and the model, which this trains.
        counts: the numbers of the text's rows and tokens.
    """
    config, rows = replace(subject.config, max_length=subject.max_length), subject.corpus["train"]
    timed: list[float] = []
    smallest = smallest_batch(config, subject.max_length, counts["train_tokens"] / counts["train"])

    def time_step(batch: int) -> float:
        values = with_batch_size(config, batch)
        said = bool(timed)  # the first trainer has already warned
        timed[:] = time_steps(subject.model, values, rows, subject.tokenizer, _WARM_UP, _TIMED, quiet=said)
        return median(timed)

    run_steps, asked = config.max_steps, batch_size(config)
    if config.train_minutes is not None:
        plan = fit(config.train_minutes, run_steps, asked, time_step, smallest, micro_batch(config))
        run_steps, asked = plan.steps, plan.batch
    else:
        time_step(asked)
    step, examples = median(timed), counts["train"]
    batch, parts = rows_of_step(config, asked)
    steps = max(1, examples // batch) if config.dataloader_drop_last else -(-examples // batch)
    if config.tokens_per_batch is not None:
        steps = -(-counts["train_tokens"] // asked)
        batch = round(examples / steps)
    if run_steps < 1:
        run_steps = math.ceil(steps * config.num_train_epochs)
    timing: Timing = {
        "seconds_per_step": step,
        "steps_timed": timed,
        "batch": batch,
        "micro_batches": parts,
        "precision": "bf16" if config.bf16 else "fp16" if config.fp16 else "float32",
        "device": config.device.type,
        "threads": torch.get_num_threads(),
        "steps_an_epoch": steps,
        "seconds_an_epoch": steps * step,
        "steps_of_the_run": run_steps,
        "seconds_of_the_run": run_steps * step,
    }
    if config.tokens_per_batch is not None:
        timing["batch_tokens"] = round(counts["train_tokens"] / steps)
    return timing
