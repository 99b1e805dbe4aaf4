"""`evaluate` measures an existing model; `fill` lets it fill the masks of prompts."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.tokenizer import load_or_train_tokenizer
from ..evaluation.before_after import State, alone
from ..evaluation.fill_mask import fill_mask
from ..metrics_file import EvaluationMetrics
from ..model.loading import load_model
from ..sources.model_folder import is_model
from ..training.checks.probe_checks import selects
from ..training.config import MLMConfig
from ..training.short_run import NOTHING_SELECTED
from ..training.trainer import MLMTrainer
from . import run_folder
from .arguments import read_config, trained_model
from .prepare import prepare
from .probing import measure_probes, probes_alone, probes_of
from .result import RunResult, refuse_push, refuse_resume, warn_of_other_words
from .similarity import ReadProbes, Similarity

logger = logging.getLogger(__name__)


def evaluate(recipe: str | Path | MLMConfig | None = None, **overrides: Any) -> RunResult[EvaluationMetrics]:
    """Measure a model on a corpus's held-out paragraphs, without training it or writing any file.

    Args:
        recipe: as for `train`; for a run folder, the model in it is measured as in its own run.
        overrides: any value of MLMConfig, such as `model="runs/meditations"` or `corpus="notes.txt"`.

    The result's metrics have the keys corpus, evaluation and versions.
    """
    if recipe is None and (Path(str(overrides.get("model"))) / "recipe.yaml").exists():
        recipe = overrides["model"]  # a finished run is measured with its own recipe
    if recipe is not None and not isinstance(recipe, MLMConfig) and is_model(Path(recipe)):
        overrides = trained_model(recipe) | overrides
        if not (Path(recipe) / "recipe.yaml").exists():
            recipe = None
    # A model that is not trained needs no adapter, nor the package peft.
    config = read_config(recipe, overrides | {"peft": "none"})
    config = replace(config, report_to="none")  # the run has already sent its figures to its trackers
    if selects(config) and "probe" in overrides and config.probe != read_config(recipe).probe:
        config = replace(config, **NOTHING_SELECTED)  # all texts of another table are new to the model
    refuse_resume(config, "evaluate")
    refuse_push(config, "evaluate")
    probes = ReadProbes.of(config)
    run = prepare(config)
    run = replace(run, probes=probes_of(run))
    similarity = Similarity(probes, run)
    logger.info(run.announcement())
    with tempfile.TemporaryDirectory() as unused:  # Trainer always creates its output_dir
        args = replace(run.config, output_dir=unused)
        trainer = MLMTrainer(
            run.model, args=args, eval_dataset=run.measured.held_out.rows, processing_class=run.tokenizer
        )
        measured = State.of(run.measured, run.model, trainer.token_results)
        warn_of_other_words(run, measured)
        probed = measure_probes(run, trainer)
        similarity.measure(trainer)
        metrics: EvaluationMetrics = {
            "corpus": run.facts,
            "evaluation": {
                "model": config.model,
                "tokenizer": config.tokenizer,
                "random_weights": run.random_weights,
                "head_initialised": run.head_initialised,
                **alone(run.measured, measured),
            },
            "versions": run_folder.versions(),
        }
        if run.probes:
            metrics["evaluation"]["probes"] = probes_alone(run, probed)
        similarity.add_alone(metrics["evaluation"])
    return RunResult(metrics)


def fill(
    model: str | Path,
    prompts: str | Sequence[str],
    top_k: int = 3,
    trust_remote_code: str | None = None,
    tokenizer: str | Path | None = None,
) -> list[list[list[tuple[str, float]]]]:
    """Fill the [MASK]s of each prompt; see `mlm_recipes.evaluation.fill_mask.fill_mask`.

    `model` is a run folder, any other local folder, or a hub id. `prompts` is a list or a single prompt. Returns, for
    each prompt and each mask in it, the `top_k` likeliest tokens with their probabilities. A model's own code is run
    only if `trust_remote_code` is the model's name. `tokenizer` is a folder or a hub id; by default the model's own.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    words = load_or_train_tokenizer(model, None, trust_remote_code=trust_remote_code, tokenizer=tokenizer)
    loaded = load_model(model, words, trust_remote_code=trust_remote_code, tokenizer_name=tokenizer)
    return fill_mask(loaded, words, prompts, top_k)
