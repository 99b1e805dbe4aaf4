"""`train` runs a recipe: it measures the model, trains it, measures it again, and writes the run folder."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from accelerate.utils.memory import clear_device_cache
from transformers.trainer_utils import HubStrategy

from ..data.tokenizer import load_tokenizer
from ..evaluation.before_after import State
from ..metrics_file import Evaluation, Failure, LoggedStep, Loop, Metrics
from ..model.freezing import frozen_facts
from ..model.lora import merge_lora
from ..report import wording
from ..report.frozen_parts import frozen_parts
from ..training.batches.kept_batch import LAYOUT
from ..training.batches.mixed_order import lengths_of, mixed_in
from ..training.batches.token_steps import steps_of_tokens
from ..training.callbacks.best_model import check_measure
from ..training.callbacks.early_stopping import best_evaluation, why_stopped
from ..training.callbacks.trackers import Trackers, refuse_missing
from ..training.checks.callback_checks import check_callbacks
from ..training.config import MLMConfig
from ..training.distributed.failing_together import go_alone
from ..training.distributed.launcher import asked_sharding
from ..training.distributed.processes import all_or_none, from_main
from ..training.faults.one_run import only_run
from ..training.faults.tolerated_failures import NotMade
from ..training.optimization.adapters import merges
from ..training.optimization.optimizers import refuse_unusable
from ..training.trainer import MLMTrainer
from . import run_folder
from .plan import RunPlan, plan_run
from .prepare import Run, prepare
from .probing import compare_probes, measure_probes, probes_of
from .result import (
    RunResult,
    compare_states,
    draw_pages,
    finished_result,
    limit_of,
    metrics_of,
    plan_of,
    refuse_diverged,
    result_of,
    warn_of_other_words,
)
from .run_facts import products_of
from .similarity import ReadProbes, Similarity
from .step_timing import (
    SMALLEST,
    batch_size,
    fit,
    micro_batch,
    smallest_batch,
    step_size,
    time_steps,
    with_batch_size,
)
from .upload import Upload

logger = logging.getLogger(__name__)

#: With `train_minutes`: the number of warm-up steps, and of steps that are timed.
_TIMED = 1, 3


def train(
    recipe: str | Path | MLMConfig | None = None, *, callbacks: Sequence[Any] | None = None, **overrides: Any
) -> RunResult[Metrics]:
    """Train a model on a corpus, and measure it before and after on the same masked tokens.

    Args:
        recipe: a YAML file, a run folder, a bundled recipe's name, or an MLMConfig; by default `quickstart` for a
            built-in model, `adapt` for any other model; `adapt-lora` with `peft="lora"`.
        callbacks: a list of transformers' TrainerCallback objects, which see every event of the run, in each process.
            recipe.yaml does not record them. A run that one of them stops (`control.should_training_stop`) is finished
            with fewer steps; it is measured as any other.
        overrides: any value of MLMConfig, such as `corpus="notes.txt"` or `num_train_epochs=3`.

    Writes the run folder: the model and its tokenizer, recipe.yaml, metrics.json, report.html, README.md. Without an
    `output_dir` it is `runs/<corpus>`, or the next free `runs/<corpus>-2`, `-3`, ...

    `resume_from_checkpoint` resumes an interrupted run in its own folder. It is a checkpoint, a run folder, or true for
    the newest checkpoint: that of `output_dir`, or of the recipe if that is a run folder, or of this corpus and model.
    With auto, a run with exactly the same values is resumed if there is one, and started if not; if it is finished,
    its result is returned.

    With `push_to_hub`, the finished folder is uploaded to the hub in one commit, as `hub_model_id` or under the
    folder's name.

    After the last step, the model is saved before anything else is done. If something optional fails after that (the
    pages, the trackers, the machine's limit, the copy on the hub), it is logged, and named in the result's `not_made`.

    It may be called in any thread, but in one at a time, and handles stop signals in the main thread only.

    Raises: ValueError or FileNotFoundError for errors that the caller can fix; FileExistsError if `output_dir`
    contains a file that a run would overwrite, unless `overwrite` is set; NotMadeError
    (mlm_recipes.training.faults.tolerated_failures) if the trained model could not be measured.
    """
    with only_run():
        return _run(recipe, check_callbacks(callbacks), overrides)


def _run(recipe: Any, callbacks: list[Any], overrides: dict[str, Any]) -> RunResult[Metrics]:
    """Plan a run, prepare it, and train it in its folder."""
    plan = plan_run(recipe, overrides)
    if plan.finished:
        return _finished(plan)
    refuse_missing(plan.config.report_to)
    refuse_unusable(plan.config)
    check_measure(plan.config)
    probes = ReadProbes.of(plan.config)
    run = prepare(plan.config)
    run = replace(run, probes=probes_of(run))
    minutes = run.config.train_minutes
    if minutes is not None:
        run = _with_chosen_length(run, minutes)
    folder = run_folder.claim(plan.folder, run.facts["name"])
    try:
        with run_folder.held(folder):
            return _train(run, plan, folder, Similarity(probes, run), callbacks, timed=minutes is not None)
    finally:
        run_folder.give_back(folder)  # if nothing was written


def _finished(plan: RunPlan) -> RunResult[Metrics]:
    """Return the result of a run that was finished before; it is sent to the hub if asked for: it may not be there."""
    assert plan.folder is not None, "a finished run has a folder"
    folder, result = plan.folder, finished_result(plan.folder)
    upload, not_made = _upload(plan.config, folder), NotMade(folder)
    if upload is None:
        return result

    def send() -> list[Failure]:
        with not_made.noting("the copy on the hub"):
            logger.info("Sent to %s", upload.send(folder, load_tokenizer(folder).vocab_files_names.values()))
        return not_made.entries

    return replace(result, not_made=tuple(entry["what"] for entry in from_main(send)))


def _with_chosen_length(run: Run, minutes: float) -> Run:
    """Return the run with a number of steps and a batch size that fit into its time; recipe.yaml will record both."""
    config = run.config
    smallest = SMALLEST
    if config.tokens_per_batch is not None:
        lengths = lengths_of(run.train_rows, config)(0)
        smallest = smallest_batch(config, int(lengths.max()), float(lengths.mean()))

    def time_step(batch: int) -> float:
        values = with_batch_size(config, batch, max_length=run.max_length)
        seconds = time_steps(copy.deepcopy(run.model), values, run.train_rows, run.tokenizer, *_TIMED, quiet=True)
        clear_device_cache(garbage_collection=True)  # the copy's memory
        return median(seconds)

    chosen = fit(minutes, config.max_steps, batch_size(config), time_step, smallest, micro_batch(config))
    decided = with_batch_size(config, chosen.batch, train_minutes=None, max_steps=chosen.steps)
    said = wording.how_long(chosen.steps, chosen.seconds_per_step)
    asked, now = (getattr(each, step_size(config)) for each in (config, decided))
    if now < asked:
        of_what = "" if config.tokens_per_batch is None else " tokens"
        said += f" Batches of {now:,} instead of {asked:,}{of_what}, so that there are enough steps."
    logger.info(said)
    return replace(run, config=decided)


def _train(
    run: Run, plan: RunPlan, folder: Path, similarity: Similarity, callbacks: list[Any], timed: bool
) -> RunResult[Metrics]:
    """Train and measure in the run's folder, which is reserved for this run."""
    config, checkpoint = run.config, plan.checkpoint
    upload = _upload(config, folder)
    # The hub's arguments are hidden from Trainer, which would upload each checkpoint, and its own card instead of ours.
    args = replace(config, output_dir=str(folder), push_to_hub=False, hub_token=None, resume_from_checkpoint=None)
    trainer = MLMTrainer(
        run.model,
        args=args,
        train_dataset=run.train_rows,
        eval_dataset=run.measured.held_out.rows,
        processing_class=run.tokenizer,
        callbacks=callbacks,
    )
    trainer.progress.told = timed
    trainer.selecting = [probe.selecting for probe in run.probes if probe.selecting is not None]
    if checkpoint is not None:
        trainer.check_resume(checkpoint)  # train() does this too, but only after files have been written
    recipe = config.to_recipe()
    config = _as_divided(config, trainer)
    run = replace(run, config=config)
    abandoned = plan.abandoned(folder, changed=bool(checkpoint and trainer.resumed[-1]["changed"]))
    if trainer.is_world_process_zero():
        run_folder.remove_checkpoints(folder, abandoned)
        if plan.continues:
            trainer.add_callback(run_folder.RecipeWithCheckpoint(folder, recipe))
        else:
            run_folder.begin(folder, recipe)
        resuming = f" Resuming from {checkpoint}." if checkpoint else ""
        logger.info("%s %s%s", run.announcement(), plan_of(config, steps_of_tokens(run.train_rows, config)), resuming)
    frozen = None if config.freeze == "none" else frozen_facts(run.model, config.freeze)
    if frozen is not None:
        logger.info(frozen_parts(frozen))
    not_made = NotMade(folder, trainer.is_world_process_zero())
    with Trackers(trainer, not_made) as trackers:
        logger.info("Measuring the model before training.")
        before = State.of(run.measured, run.model, trainer.token_results, original=True)
        probed_before = measure_probes(run, trainer, original=True)
        similarity.measure(trainer, original=True)
        warn_of_other_words(run, before)
        trainer.log(before.logged)
        trackers.log("before", before.measures)
        started = time.monotonic()
        output = trainer.train(resume_from_checkpoint=checkpoint or False)
        seconds = time.monotonic() - started
        logged = [*trainer.state.log_history]  # a copy, because more is logged below
        best = best_evaluation(trainer.args, trainer.state)
        stopped = why_stopped(trainer.callback_handler.callbacks, trainer.args, trainer.state)
        products = None  # FSDP splits the model
        if not asked_sharding(config):
            with not_made.noting("the machine's limit"):  # a merged adapter no longer tells what it took to train
                products = products_of(run.model)
        # Nothing that can fail comes before this. From here on, the model is in the run's folder on the disk.
        saved = _save(trainer, folder, config, recipe)
        with not_made.trained():
            real, padding = trainer.accelerator.reduce(trainer.token_counter.counts().to(config.device)).tolist()
            logger.info("Measuring the model after training.")
            with trainer.whole_model():
                after = State.of(run.measured, run.model, trainer.token_results)
                probed_after = measure_probes(run, trainer)
                similarity.measure(trainer)
        refuse_diverged(after, config, saved if trainer.is_world_process_zero() else [])
        # From here on the processes do nothing together, so that a failure in one does not make the others wait for it.
        go_alone()
        with not_made.trained():
            trainer.log(after.logged)
            trackers.log("after", after.measures)
            compared = compare_states(run, before, after, not_made)
            if run.probes:
                with not_made.noting("the comparison of the probes"):
                    compared["probes"] = compare_probes(run, probed_before, probed_after)
            if "probes" in compared:
                trackers.log("probe", {probe["name"]: probe["accuracy"] for probe in compared["probes"]})
            with not_made.noting("the comparison of pairs and searches"):
                similarity.add_to(compared)
            if "gain" in compared:
                trackers.log("gain", compared["gain"])
            taken = range(trainer.resumed[-1]["step"] if trainer.resumed else 0, output.global_step)
            steps = len(taken)
            head_steps = trainer.head_warmup.steps_of(trainer.state) if trainer.head_warmup is not None else 0
            head_first = max(0, head_steps - taken.start) / max(1, steps)
            limit = None
            if steps and products is not None:
                with not_made.noting("the machine's limit"):
                    limit = limit_of(config, products, real, seconds, taken, trainer.state.max_steps, head_first)
            loop: Loop = {
                "recipe": "train",
                "skipped_steps": trainer.skipped_steps,
                "seconds": seconds,
                "steps": output.global_step,
                "epochs": trainer.epochs,
                "processes": config.world_size,
                "resumed": trainer.resumed,
                "history": [_logged_step(entry) for entry in logged if "loss" in entry],
                "evaluations": [_evaluation(entry) for entry in logged if "eval_loss" in entry],
                "tokens": {"real": real, "padding": padding},
                "steps_per_second": steps / seconds if steps else None,
                "tokens_per_second": real / seconds if steps else None,
                "machine_limit": limit,
            }
            if best is not None:
                loop["best_model"] = best
            if stopped is not None:
                loop["stopped_early"] = stopped
            elif output.global_step < trainer.state.max_steps:
                loop["stopped_by_callback"] = {"step": output.global_step, "of": trainer.state.max_steps}
            if frozen is not None:
                loop["frozen"] = frozen
            if head_steps:
                loop["head_warmup_steps"] = head_steps
            if config.train_new_tokens_first is not None:
                loop["train_new_tokens_first"] = min(config.train_new_tokens_first, output.global_step)
            if trainer.micro_batch_parts > 1:
                loop["out_of_memory"] = {"parts": trainer.micro_batch_parts}
            if trainer.compiled.facts is not None:
                loop["compilation"] = trainer.compiled.facts
            if trainer.graphs is not None:
                loop["cuda_graphs"] = trainer.graphs.facts
            if trainer.rank_loads is not None and (balance := trainer.rank_loads.facts(taken)) is not None:
                loop["balance"] = balance
            if config.mix:
                sampler = trainer.epoch_sampler(run.train_rows, config.world_size)
                loop["mixed"] = mixed_in(run.train_rows, sampler, trainer.args, output.global_step)
            metrics = metrics_of(run, config, before, after, compared, not_made, loop)
            if trainer.is_world_process_zero():
                run_folder.write_metrics(folder, metrics)
        if trainer.is_world_process_zero():
            draw_pages(folder, metrics, not_made)
    if upload is not None and trainer.is_world_process_zero():
        with not_made.noting("the copy on the hub"):
            logger.info("Sent to %s", upload.send(folder, run.tokenizer.vocab_files_names.values()))
    return result_of(metrics, folder, not_made)


def _as_divided(config: MLMConfig, trainer: MLMTrainer) -> MLMConfig:
    """Return the config with the trainer's micro-batches, which follow from the number of processes.

    The recipe keeps the config's own, with which any number of processes makes the same run.
    """
    divided = copy.copy(config)
    for name in LAYOUT:
        setattr(divided, name, getattr(trainer.args, name))
    return divided


def _logged_step(entry: dict[str, float]) -> LoggedStep:
    """Return metrics.json's entry for a step that Trainer logged."""
    found: LoggedStep = {"step": int(entry["step"]), "loss": entry["loss"], "learning_rate": entry["learning_rate"]}
    if "grad_norm" in entry:
        found["grad_norm"] = entry["grad_norm"]
    if "mlm_probability" in entry:
        found["mlm_probability"] = entry["mlm_probability"]
    return found


def _evaluation(entry: dict[str, float]) -> Evaluation:
    """Return metrics.json's entry for an evaluation during training."""
    found: Evaluation = {
        "step": int(entry["step"]),
        "loss": entry["eval_loss"],
        "accuracy": entry["eval_accuracy"],
        "perplexity": entry["eval_perplexity"],
    }
    if "eval_probe_accuracy" in entry:
        found["probe_accuracy"] = entry["eval_probe_accuracy"]
    return found


def _upload(config: MLMConfig, folder: Path) -> Upload | None:
    """Return where the finished run is uploaded, if anywhere."""
    if not config.push_to_hub:
        return None
    name = config.hub_model_id or folder.resolve().name
    strategy = HubStrategy(config.hub_strategy).value
    return from_main(
        lambda: Upload.open(name, config.hub_token, config.hub_private_repo, config.hub_revision, strategy)
    )


def _save(trainer: MLMTrainer, folder: Path, config: MLMConfig, recipe: dict[str, Any]) -> list[Path]:
    """Save the model in the run's folder, and return its files; all processes call this.

    It is first written to a temporary folder, so that a full disk leaves the existing files unchanged. An adapter that
    is to be merged is merged now, so that what is measured afterwards is what was saved.
    """
    if merges(config):
        merge_lora(trainer.model)
    main = trainer.is_world_process_zero()
    staged = run_folder.staging(folder, clear=main)
    trainer.save_model(str(staged))
    return all_or_none(lambda: run_folder.take_in(staged, folder, recipe) if main else [])
