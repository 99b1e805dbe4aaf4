"""Code that the recipes share: their result, metrics.json, the pages, and the values that they refuse."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ..evaluation.before_after import State, compare, uncompared
from ..masking.collator import EVALUATION_SHARE
from ..masking.policy_table import POLICIES
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
from ..metrics_file import read as read_metrics
from ..report import last_screen, run_report, wording
from ..report.model_card import licence_in
from ..sources.model_folder import model_folder, source_of
from ..training.batches.token_steps import TokenSteps
from ..training.config import MLMConfig
from ..training.faults.tolerated_failures import NotMade
from ..training.optimization.adapters import merges
from . import run_folder
from .prepare import Run
from .run_facts import Product, command_line, device_name, machine_limit, peak_memory, training_flops

logger = logging.getLogger(__name__)

#: The metrics of a run or of an evaluation.
Measured = TypeVar("Measured", bound=Metrics | EvaluationMetrics)


@dataclass(frozen=True)
class RunResult(Generic[Measured]):
    """The result of a recipe: the `metrics` (as in metrics.json), and the run folder, if one was written.

    `not_made` names the optional outputs that failed, such as report.html, a tracker's figures, or the copy on the hub.
    `print(result)` prints the same summary as the command line.
    """

    metrics: Measured
    output_dir: Path | None = None
    not_made: tuple[str, ...] = ()

    def __str__(self) -> str:
        return last_screen.summary(self.metrics, self.output_dir)


def refuse_resume(config: MLMConfig, verb: str) -> None:
    """Raise ValueError if a verb without checkpoints is asked to resume."""
    for name in ("resume_from_checkpoint", "change_on_resume"):
        if getattr(config, name):
            raise ValueError(
                f"{name}: received {getattr(config, name)!r}. Accepted here: nothing, since `{verb}` has no "
                "checkpoints to resume from. Leave it out, or use `mlm-recipes train`."
            )


def refuse_push(config: MLMConfig, verb: str) -> None:
    """Raise ValueError if a verb that uploads nothing is asked to upload."""
    if config.push_to_hub:
        raise ValueError(
            f"push_to_hub: received true. Accepted here: nothing, since `{verb}` uploads nothing. Leave it out, or "
            "use `mlm-recipes train`."
        )


def limit_of(
    config: MLMConfig,
    products: Sequence[Product],
    tokens: int,
    seconds: float,
    steps: range,
    total: int,
    head_first: float = 0.0,
) -> MachineLimit:
    """Return how close to the machine's limit training was.

    `products` are those of the model that was trained; `steps` are those that computed the `tokens` in `seconds`, of
    `total` that were planned; `head_first` is the share of them in which only the head was trained.
    """
    schedule = config.probability_schedule()
    share = config.mlm_probability if schedule is None else schedule.mean(steps, total)
    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32
    flops = training_flops(products, tokens, share * tokens, head_first)
    return machine_limit(flops, config.device, seconds, config.world_size, dtype)


def plan_of(config: MLMConfig, of_tokens: TokenSteps | None = None) -> str:
    """Return a sentence that describes the planned training: how long, on what, and how much is masked.

    `of_tokens`: how an epoch is divided, if its steps have a number of tokens.
    """
    length = wording.count(config.max_steps, "step") if config.max_steps > 0 else f"{config.num_train_epochs:g} epochs"
    if config.early_stopping_patience is not None:
        length = f"at most {length}"
    batch = f"{config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size}"
    if of_tokens is not None:
        batch = f"about {of_tokens.tokens:,} tokens ({wording.count(of_tokens.steps, 'step')} an epoch)"
    precision = "bf16" if config.bf16 else "fp16" if config.fp16 else "float32"
    schedule = config.probability_schedule()
    masked = f"{config.mlm_probability:.0%} of the tokens masked"
    not_comparable = "when it is measured, so the losses are not comparable"
    if schedule is not None:
        masked = f"a changing share of the tokens masked: {schedule.within(config.max_steps)}"
    if config.masking_policy != "token":
        masked += f" by {config.masking_policy} ({POLICIES[config.masking_policy].says}; "
        masked += f"{EVALUATION_SHARE:.0%} token by token {not_comparable})"
    elif schedule is not None or config.mlm_probability != EVALUATION_SHARE:
        masked += f" ({EVALUATION_SHARE:.0%} {not_comparable})"
    return (
        f"Training for {length} in batches of {batch}, learning rate {config.learning_rate:g}, {masked}, in "
        f"{precision} on {device_name(config.device)}."
    )


def warn_of_other_words(run: Run, state: State) -> None:
    """Log it if a trained model with a tokenizer from elsewhere predicts no better than word frequencies do."""
    loss, words = state.held_out.summary()["loss"], run.facts["word_frequencies"]["loss"]
    if run.config.tokenizer is not None and not run.random_weights and not run.head_initialised and loss >= words:
        logger.warning(
            "With the tokenizer %s, the model's loss on the held-out text is %.2f, and word frequencies alone reach "
            "%.2f. Make sure that the model was trained with this tokenizer.",
            run.config.tokenizer,
            loss,
            words,
        )


def compare_states(run: Run, before: State, after: State, not_made: NotMade) -> Comparison:
    """Return the comparison of both states; if it cannot be computed, only the measures."""
    next_step = "Both are in metrics.json; report.html and README.md, which show the change, are not written."
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
    """Return the content of metrics.json; `loop` contains the facts that only the training loop knows."""
    start: Start = {
        "command": None,
        "model": config.model,
        "tokenizer": config.tokenizer,
        "random_weights": run.random_weights,
        "head_initialised": run.head_initialised,
        "parameters": run.parameters,
    }
    if run.lora is not None:
        start["trained_parameters"] = run.lora.trained
        start["lora"] = {
            "r": run.lora.r,
            "alpha": run.lora.alpha,
            "layers": len(run.lora.layers),
            "head": [*run.lora.head],
            "merged": merges(config),
        }
    with not_made.noting("the command line"):
        start["command"] = command_line()
    with not_made.noting("the original model's licence"):  # the model's folder may have been removed
        start["model_source"] = source_of(config.model)
        if (
            start["model_source"] != "hub"
        ):  # the hub shows the licence on the model's page, and the card names the model
            start["model_licence"] = licence_in(model_folder(config.model) / "README.md")
    measuring: Measuring = {
        "evaluation_seconds": before.seconds + after.seconds,
        "prompts_compared": 0 if run.measured.prompts.own else len(run.measured.prompts.candidates),
        "peak_memory": None,
    }
    with not_made.noting("the peak memory"):
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
    """Write the pages of a finished run."""
    for name in run_report.FILES if "gain" in metrics else ():
        with not_made.noting(name, f"`mlm-recipes report {folder}` writes it again."):
            run_report.write(folder, [name])


def result_of(metrics: Metrics, folder: Path, not_made: NotMade) -> RunResult[Metrics]:
    """Return the result of a run, including the names of outputs that failed."""
    return RunResult(metrics, folder, tuple(entry["what"] for entry in not_made.entries))


def finished_result(folder: Path) -> RunResult[Metrics]:
    """Return the result of a run that was finished before, from its folder, and log that nothing was left to do."""
    logger.info(
        "%s holds this run, finished: nothing is left to train. To train again, pass --overwrite or another "
        "--output_dir.", folder,
    )  # fmt: skip
    return RunResult(read_metrics(folder, "train"), folder)


def refuse_diverged(after: State, config: MLMConfig, saved: list[Path]) -> None:
    """Remove the saved files and raise ValueError if the loss after training is not finite."""
    loss = after.held_out.summary()["loss"]
    if not math.isfinite(loss):
        for path in saved:
            path.unlink(missing_ok=True)
        raise ValueError(
            f"train: the held-out loss is {loss} after training: the run has diverged, and nothing was saved. "
            f"Accepted: a learning rate at which training is stable; {config.learning_rate:g} is too high. Lower "
            "--learning_rate."
        )
