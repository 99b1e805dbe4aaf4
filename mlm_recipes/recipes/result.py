"""What the recipes share: the result that they return, metrics.json, the pages, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ..evaluation.before_after import State, compare, uncompared
from ..metrics_file import (
    SCHEMA_VERSION,
    Comparison,
    EvaluationMetrics,
    Loop,
    MachineLimit,
    Measuring,
    Metrics,
    Start,
)
from ..report import last_screen, run_report, wording
from ..report.model_card import licence_in
from ..sources.model_folder import model_folder, source_of
from ..training.config import MLMConfig
from ..training.tolerated_failures import NotMade
from . import run_folder
from .prepare import Run
from .run_facts import command_line, machine_limit, peak_memory

#: What a run measured, or an evaluation.
Measured = TypeVar("Measured", bound=Metrics | EvaluationMetrics)


@dataclass(frozen=True)
class RunResult(Generic[Measured]):
    """What a recipe returns: the `metrics` (as in metrics.json) and the folder they lie in, if one was written.

    `not_made` names what the finished run lacks, because it failed: report.html, a tracker's figures, the copy on the
    hub. `print(result)` shows what the command line shows.
    """

    metrics: Measured
    output_dir: Path | None = None
    not_made: tuple[str, ...] = ()

    def __str__(self) -> str:
        return last_screen.summary(self.metrics, self.output_dir)


def refuse_resume(config: MLMConfig, verb: str) -> None:
    """Raise ValueError where a verb without checkpoints is told to resume."""
    for name in ("resume_from_checkpoint", "change_on_resume"):
        if getattr(config, name):
            raise ValueError(
                f"{name}: received {getattr(config, name)!r}. Accepted here: nothing, since `{verb}` has no "
                "checkpoints to go on from. Leave it out, or use `mlm-recipes train`."
            )


def refuse_push(config: MLMConfig, verb: str) -> None:
    """Raise ValueError where a verb that uploads nothing is told to."""
    if config.push_to_hub:
        raise ValueError(
            f"push_to_hub: received true. Accepted here: nothing, since `{verb}` sends nothing to the hub. Leave it "
            "out, or use `mlm-recipes train`."
        )


def limit_of(run: Run, config: MLMConfig, tokens: int, seconds: float) -> MachineLimit | None:
    """Return how near to the machine's limit training was; None where other libraries hold parts of the model."""
    if config.fsdp or config.deepspeed:
        return None
    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32
    return machine_limit(run.model, tokens, config.mlm_probability * tokens, seconds, config.world_size, dtype)


def plan_of(config: MLMConfig, precision: str = "") -> str:
    """Say for how long training goes on, and how."""
    length = wording.count(config.max_steps, "step") if config.max_steps > 0 else f"{config.num_train_epochs:g} epochs"
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    return f"Training for {length} in batches of {batch}, learning rate {config.learning_rate:g}{precision}."


def compare_states(run: Run, before: State, after: State, not_made: NotMade) -> Comparison:
    """Return what changed; where that cannot be computed, what was measured."""
    next_step = "Before and after are in metrics.json; report.html and README.md, which show the change, are not drawn."
    found = uncompared(before, after)
    with not_made.noting("the comparison of before and after", next_step):
        found.update(compare(run.measured, before, after))
    return found


def metrics_of(
    run: Run,
    config: MLMConfig,
    before: State,
    after: State,
    compared: Comparison,
    not_made: NotMade,
    loop: Loop,
) -> Metrics:
    """Return what metrics.json holds; `loop` is what only the loop that ran can say."""
    start: Start = {
        "command": None,
        "model": config.model,
        "random_weights": run.random_weights,
        "head_initialised": run.head_initialised,
        "parameters": run.model.num_parameters(),
    }
    with not_made.noting("the command line"):
        start["command"] = command_line()
    with not_made.noting("the licence of the model that training began with"):  # whose folder may be gone by now
        start["model_source"] = source_of(config.model)
        if start["model_source"] != "hub":  # there it is stated beside the model, which the card names
            start["model_licence"] = licence_in(model_folder(config.model) / "README.md")
    measuring: Measuring = {
        "evaluation_seconds": before.seconds + after.seconds,
        "prompts_compared": 0 if run.measured.prompts.own else len(run.measured.prompts.candidates),
        "peak_memory": None,
    }
    with not_made.noting("the peak of memory"):
        measuring["peak_memory"] = peak_memory(run.model.device)
    versions: dict[str, str] = {}
    with not_made.noting("the versions"):
        versions = run_folder.versions()
    metrics: Metrics = {
        "schema_version": SCHEMA_VERSION,
        "corpus": run.facts,
        **compared,
        "train": {**start, **loop, **measuring},
        "versions": versions,
        "not_made": [*not_made.entries],
    }
    if not not_made.entries:
        del metrics["not_made"]
    return metrics


def draw_pages(folder: Path, metrics: Metrics, not_made: NotMade) -> None:
    """Draw the pages of a finished run."""
    for name in run_report.FILES if "gain" in metrics else ():
        with not_made.noting(name, f"`mlm-recipes report {folder}` draws it again."):
            run_report.write(folder, [name])


def result_of(metrics: Metrics, folder: Path, not_made: NotMade) -> RunResult[Metrics]:
    """Return the result of a run, which names what could not be made."""
    return RunResult(metrics, folder, tuple(entry["what"] for entry in not_made.entries))


def refuse_diverged(after: State, config: MLMConfig, saved: list[Path]) -> None:
    """Raise ValueError for a model that is none any more, after removing its files."""
    loss = after.held_out.summary()["loss"]
    if not math.isfinite(loss):
        for path in saved:
            path.unlink(missing_ok=True)
        raise ValueError(
            f"train: the held-out loss is {loss} after training: the run has diverged, and nothing was saved. "
            f"Accepted: a learning rate that the model bears; this was {config.learning_rate:g}. Lower --learning_rate."
        )
