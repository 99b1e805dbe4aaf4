"""The recipe functions: `train`, `evaluate`, `reference` and `fill`, each the whole story from top to bottom."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import set_seed
from transformers.trainer_utils import HubStrategy

from ..data.tokenizer import load_tokenizer
from ..evaluation.before_after import State, alone, compare, uncompared
from ..evaluation.fill_mask import fill_mask
from ..evaluation.token_results import TokenResults, evaluate_tokens
from ..model.loading import load_model
from ..model.sparse_prediction import unsupported
from ..report import run_report, wording
from ..report.model_card import licence_in
from ..sources.model_folder import model_folder, source_of
from ..training.config import MLMConfig
from ..training.not_made import NotMade
from ..training.processes import all_or_none, from_main
from ..training.trackers import Trackers, refuse_missing
from ..training.trainer import MLMTrainer
from . import reference_loop, resumption, run_folder
from .arguments import read_config
from .machine_limit import machine_limit
from .pace import fit, time_steps
from .prepare import Run, prepare
from .run_facts import command_line, peak_memory
from .upload import Upload

logger = logging.getLogger(__name__)

#: Steps before the clock counts, and steps that are timed, where a run is to take so many minutes.
_TIMED = 1, 3

#: What the loop by hand does, whatever a recipe says; a recipe that says otherwise is refused.
_TUTORIAL = {
    "loss_on": "all",
    "static_masks": True,
    "padding": "max_length",
    "mask_replace_prob": 1.0,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "max_grad_norm": 0.0,
    "decay_bias_and_norm": True,
    "muon": False,
    "packing": False,
    "long_text": "truncate",
    "max_steps": -1,
    "train_minutes": None,
    "gradient_accumulation_steps": 1,
    "bf16": False,
    "fp16": False,
    "streaming": False,
    "report_to": [],
}


@dataclass(frozen=True)
class RunResult:
    """What a recipe returns: the `metrics` (as in metrics.json) and the folder they lie in, if one was written.

    `not_made` names what the finished run lacks, because it failed: report.html, a tracker's figures, the copy on the
    hub. `print(result)` shows what the command line shows.
    """

    metrics: dict[str, Any]
    output_dir: Path | None = None
    not_made: tuple[str, ...] = ()

    def __str__(self) -> str:
        return run_report.summary(self.metrics, self.output_dir)


def train(recipe: str | Path | MLMConfig | None = None, **overrides: Any) -> RunResult:
    """Train a model on a corpus, and measure it before and after on the same masked tokens.

    Args:
        recipe: a YAML file, a run folder, a bundled recipe's name, or an MLMConfig; by default `quickstart` for a
            built-in model, `adapt` for another.
        overrides: any value of MLMConfig, such as `corpus="notes.txt"` or `num_train_epochs=3`.

    Writes the run folder: the model and its tokenizer, recipe.yaml, metrics.json, report.html, README.md. Without an
    `output_dir` it is `runs/<corpus>`, or the next free `runs/<corpus>-2`, `-3`, ...

    With `resume_from_checkpoint` an interrupted run goes on, in its own folder: a checkpoint, a run folder, or true for
    the newest checkpoint of `output_dir`, of the recipe if that is a run folder, or else of this corpus and model; auto
    goes on with a run of the very same values if there is one, and starts it if not.

    With `push_to_hub` the finished folder is sent to the hub, in one commit, as `hub_model_id` or under its own name.

    When the last step is done, the model is on the disk before anything else. What fails afterwards and can be done
    without is said, and named in the result's `not_made`: pages, trackers, the machine's limit, the copy on the hub.

    Raises: ValueError or FileNotFoundError for what the caller can mend; FileExistsError for an `output_dir` that
    holds a file a run would write over, unless `overwrite` is set; NotMadeError (mlm_recipes.training.not_made) where
    the trained model could not be measured.
    """
    config = read_config(recipe, overrides)
    refuse_missing(config.report_to)
    resumption.go_on_if_begun(config)
    checkpoint = resumption.checkpoint_asked_for(recipe, config)
    if checkpoint is not None and recipe is None and (checkpoint.parent / "recipe.yaml").is_file():
        config = read_config(checkpoint.parent, overrides)  # the run's own values, not those of the default recipe
    if checkpoint is not None:
        resumption.take_length_of(checkpoint, config)
    goes_on = checkpoint is not None and resumption.is_its_own(checkpoint, config)
    if not goes_on:
        run_folder.refuse_to_overwrite(resumption.asked_for(config), config.overwrite)
    run = prepare(config)
    timed = config.train_minutes is not None
    if config.train_minutes is not None:
        _choose_length(run, config.train_minutes)
    folder = run_folder.claim(resumption.asked_for(config), run.corpus.facts["name"])
    config.output_dir = str(folder)
    try:
        with run_folder.held(folder):
            return _train(run, folder, checkpoint, goes_on, timed)
    finally:
        run_folder.give_back(folder)  # where nothing was written


def _choose_length(run: Run, minutes: float) -> None:
    """Replace `train_minutes` by the steps, and the batch, that fit: recipe.yaml then repeats the run exactly."""
    config = run.config
    asked = config.per_device_train_batch_size

    def time_step(batch: int) -> float:
        values = replace(config, per_device_train_batch_size=batch, max_length=run.max_length)
        seconds = time_steps(copy.deepcopy(run.model), values, run.train_rows, run.tokenizer, *_TIMED, quiet=True)
        clear_device_cache(garbage_collection=True)  # the copy's memory
        return median(seconds)

    chosen = fit(minutes, config.max_steps, asked, time_step)
    config.train_minutes = None
    config.max_steps, config.per_device_train_batch_size = chosen.steps, chosen.batch
    said = wording.how_long(chosen.steps, chosen.seconds_per_step)
    if chosen.batch < asked:
        said += f" Batches of {chosen.batch} in place of {asked}, so that there are enough steps."
    logger.info(said)


def _train(run: Run, folder: Path, checkpoint: Path | None, goes_on: bool, timed: bool) -> RunResult:
    """Train and measure in the folder of the run, which no other has meanwhile."""
    config = run.config
    upload = _upload(config, folder)
    trainer = MLMTrainer(
        run.model,
        args=config,
        train_dataset=run.train_rows,
        eval_dataset=run.measured.held_out.rows,
        processing_class=run.tokenizer,
    )
    trainer.progress.told = timed
    if checkpoint is not None:
        trainer.check_resume(checkpoint)  # train() does so too; here it comes before anything is written
    abandoned = resumption.abandoned(folder, checkpoint, config, bool(checkpoint and trainer.resumed[-1]["changed"]))
    if trainer.is_world_process_zero():
        run_folder.remove_checkpoints(folder, abandoned)
        if goes_on:
            trainer.add_callback(resumption.RecipeWithCheckpoint(folder, config.to_recipe()))
        else:
            run_folder.begin(folder, config.to_recipe())
        plan = _plan(config, ", in bf16" if config.bf16 else "")
        logger.info("%s %s%s", run.announcement(), plan, f" Going on from {checkpoint}." if checkpoint else "")
    not_made = NotMade(folder, trainer.is_world_process_zero())
    with Trackers(trainer, not_made) as trackers:
        before = State.of(run.measured, run.model, trainer.token_results)
        trainer.log(before.logged)
        trackers.log("before", before.measures)
        started = time.monotonic()
        output = trainer.train(resume_from_checkpoint=checkpoint or False)
        seconds = time.monotonic() - started
        logged = [*trainer.state.log_history]  # what follows is logged behind it
        # Nothing that can fail comes before this: from here on the model is on the disk, in the folder of the run.
        saved = _save(trainer, folder, config)
        with not_made.trained():
            real, padding = trainer.accelerator.reduce(trainer.computed.counts().to(config.device)).tolist()
            after = State.of(run.measured, run.model, trainer.token_results)
        _refuse_diverged(after, config, saved if trainer.is_world_process_zero() else [])
        # The processes do nothing together any more: what fails in one does not have the others wait for it.
        with not_made.trained():
            trainer.log(after.logged)
            trackers.log("after", after.measures)
            compared = _compare(run, before, after, not_made)
            if "gain" in compared:
                trackers.log("gain", compared["gain"])
            steps = output.global_step - (trainer.resumed[-1]["step"] if trainer.resumed else 0)
            history = [entry for entry in logged if "loss" in entry]
            limit = None
            if steps:
                with not_made.noting("the machine's limit"):
                    limit = _limit(run, config, real, seconds)
            metrics = _metrics(
                run,
                config,
                before,
                after,
                compared,
                not_made,
                recipe="train",
                skipped_steps=trainer.skipped_steps,
                seconds=seconds,
                steps=output.global_step,
                epochs=trainer.epochs,
                processes=config.world_size,
                resumed=trainer.resumed,
                history=[
                    {key: entry[key] for key in ("step", "loss", "learning_rate", "grad_norm") if key in entry}
                    for entry in history
                ],
                evaluations=[
                    {"step": entry["step"]}
                    | {name: entry[f"eval_{name}"] for name in ("loss", "accuracy", "perplexity")}
                    for entry in logged
                    if "eval_loss" in entry
                ],
                tokens={"real": real, "padding": padding},
                steps_per_second=steps / seconds if steps else None,
                tokens_per_second=real / seconds if steps else None,
                machine_limit=limit,
                **({"out_of_memory": {"parts": trainer.micro_batch_parts}} if trainer.micro_batch_parts > 1 else {}),
            )
            if trainer.is_world_process_zero():
                run_folder.write_metrics(folder, metrics)
        if trainer.is_world_process_zero():
            _draw(folder, metrics, not_made)
    if upload is not None and trainer.is_world_process_zero():
        with not_made.noting("the copy on the hub"):
            logger.info("Sent to %s", upload.send(folder, run.tokenizer.vocab_files_names.values()))
    return _result(metrics, folder, not_made)


def evaluate(recipe: str | Path | MLMConfig | None = None, **overrides: Any) -> RunResult:
    """Measure a model on a corpus's held-out paragraphs; trains nothing, writes nothing.

    Args:
        recipe: as for `train`; a run folder stands for the model in it, measured as in its own run.
        overrides: any value of MLMConfig, such as `model="runs/meditations"` or `corpus="notes.txt"`.

    The result's metrics have the keys corpus, evaluation and versions.
    """
    if recipe is None and (Path(str(overrides.get("model"))) / "recipe.yaml").exists():
        recipe = overrides["model"]  # a finished run is measured by its own recipe
    if recipe is not None and not isinstance(recipe, MLMConfig) and (Path(recipe) / "config.json").exists():
        overrides = {"model": str(recipe), "model_revision": None, "from_scratch": False} | overrides
        if not (Path(recipe) / "recipe.yaml").exists():
            recipe = None
    config = read_config(recipe, overrides)
    _refuse_resume(config, "evaluate")
    config.report_to = []  # the run's trackers have had their figures
    _refuse_push(config, "evaluate")
    run = prepare(config)
    logger.info(run.announcement())
    with tempfile.TemporaryDirectory() as unused:  # Trainer makes its output_dir, needed or not
        config.output_dir = unused
        trainer = MLMTrainer(
            run.model, args=config, eval_dataset=run.measured.held_out.rows, processing_class=run.tokenizer
        )
        metrics = {
            "corpus": run.corpus.facts,
            "evaluation": {
                "model": config.model,
                "random_weights": run.random_weights,
                "head_initialised": run.head_initialised,
            }
            | alone(run.measured, State.of(run.measured, run.model, trainer.token_results)),
            "versions": run_folder.versions(),
        }
    return RunResult(metrics)


def reference(recipe: str | Path | MLMConfig | None = "tutorial", **overrides: Any) -> RunResult:
    """Run the tutorial's own loop (reference_loop.py) on a corpus, measured and saved as `train` does.

    It pads to `max_length`, draws the masks once, scores every position, and keeps the learning rate constant; of the
    recipe it takes corpus, model, max_length, mlm_probability, batch size, epochs, learning rate, weight decay and
    seed. Runs in one process.

    Raises: as `train`; ValueError for a value that the loop cannot follow, or a number of epochs that is not whole.
    """
    config = read_config(recipe, overrides)
    _refuse_resume(config, "reference")
    _refuse_push(config, "reference")
    for name, value in _TUTORIAL.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}: received {getattr(config, name)!r}. Accepted here: {value!r}, the tutorial's loop knows no "
                "other. Start from recipes/tutorial.yaml, or use `mlm-recipes train`."
            )
    if config.world_size > 1:
        raise ValueError(
            f"reference: received {config.world_size} processes. Accepted: one, the tutorial's loop knows no other. "
            "Start it without torchrun, or use `mlm-recipes train`."
        )
    if config.num_train_epochs != int(config.num_train_epochs) or config.num_train_epochs < 1:
        raise ValueError(
            f"num_train_epochs: received {config.num_train_epochs}. Accepted here: a whole number from 1, the "
            "tutorial's loop knows no other. Pass --num_train_epochs 2."
        )
    run_folder.refuse_to_overwrite(resumption.asked_for(config), config.overwrite)
    run = prepare(config)
    folder = run_folder.claim(resumption.asked_for(config), f"{run.corpus.facts['name']}-reference")
    run_folder.write_recipe(folder, config.to_recipe())
    logger.info("%s %s", run.announcement(), _plan(config))

    run.model.to(config.device)

    sparse = unsupported(run.model) is None

    def token_results(rows: Any, draw: int) -> TokenResults:
        collator = run.collator().frozen(config.evaluation_seed, draw)
        return TokenResults.of([evaluate_tokens(run.model, rows, collator, config.per_device_eval_batch_size, sparse)])

    before = State.of(run.measured, run.model, token_results)
    set_seed(config.seed)
    encodings = reference_loop.encode(run.corpus["train"]["text"], run.tokenizer, run.max_length)
    reference_loop.mask(encodings, run.tokenizer, config.mlm_probability)
    started = time.monotonic()
    losses = reference_loop.train_loop(
        run.model,
        reference_loop.ParagraphDataset(encodings),
        epochs=int(config.num_train_epochs),
        batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    seconds = time.monotonic() - started
    staged = run_folder.staging(folder)
    run.model.save_pretrained(staged)
    run.tokenizer.save_pretrained(staged)
    saved = run_folder.take_in(staged, folder, config.to_recipe())
    not_made = NotMade(folder)
    with not_made.trained():
        after = State.of(run.measured, run.model, token_results)
    _refuse_diverged(after, config, saved)
    with not_made.trained():
        metrics = _metrics(
            run,
            config,
            before,
            after,
            _compare(run, before, after, not_made),
            not_made,
            recipe="reference",
            seconds=seconds,
            steps=len(losses),
            epochs=config.num_train_epochs,
            processes=1,
            history=[
                {"step": step, "loss": loss, "learning_rate": config.learning_rate}
                for step, loss in enumerate(losses, start=1)
            ],
            evaluations=[],
            tokens=None,
            steps_per_second=len(losses) / seconds,
            tokens_per_second=None,
        )
        run_folder.write_metrics(folder, metrics)
    _draw(folder, metrics, not_made)
    return _result(metrics, folder, not_made)


def fill(
    model: str | Path, prompts: str | Sequence[str], top_k: int = 3, trust_remote_code: str | None = None
) -> list[list[list[tuple[str, float]]]]:
    """Fill the [MASK]s of each prompt; see `mlm_recipes.fill_mask.fill_mask`.

    `model` is a run folder, another local folder, or a hub id. Returns, for each prompt and each mask in it, the
    `top_k` likeliest tokens with their probabilities. One prompt may stand alone, without a list around it.
    Code that the model brings is run only if `trust_remote_code` is its name.
    """
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    prompts = [prompts] if isinstance(prompts, str) else prompts
    return fill_mask(load_model(model, tokenizer, trust_remote_code=trust_remote_code), tokenizer, prompts, top_k)


def _refuse_resume(config: MLMConfig, verb: str) -> None:
    for name in ("resume_from_checkpoint", "change_on_resume"):
        if getattr(config, name):
            raise ValueError(
                f"{name}: received {getattr(config, name)!r}. Accepted here: nothing, since `{verb}` has no "
                "checkpoints to go on from. Leave it out, or use `mlm-recipes train`."
            )


def _refuse_push(config: MLMConfig, verb: str) -> None:
    if config.push_to_hub:
        raise ValueError(
            f"push_to_hub: received true. Accepted here: nothing, since `{verb}` sends nothing to the hub. Leave it "
            "out, or use `mlm-recipes train`."
        )


def _limit(run: Run, config: MLMConfig, tokens: int, seconds: float) -> dict[str, Any] | None:
    """Return how near to the machine's limit training was; None where other libraries hold parts of the model."""
    if config.fsdp or config.deepspeed:
        return None
    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32
    return machine_limit(run.model, tokens, config.mlm_probability * tokens, seconds, config.world_size, dtype)


def _upload(config: MLMConfig, folder: Path) -> Upload | None:
    """Return where the finished run is to be sent, if anywhere; Trainer does not hear of it.

    It would send each checkpoint, a card of its own in the place of ours, and leave the token in training_args.bin.
    """
    if not config.push_to_hub:
        return None
    name = config.hub_model_id or folder.resolve().name
    wanted = (
        config.hub_token,
        config.hub_private_repo,
        config.hub_revision,
        HubStrategy(config.hub_strategy).value,
    )
    config.push_to_hub, config.hub_token = False, None
    return from_main(lambda: Upload.open(name, *wanted))


def _plan(config: MLMConfig, precision: str = "") -> str:
    length = wording.count(config.max_steps, "step") if config.max_steps > 0 else f"{config.num_train_epochs:g} epochs"
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    return f"Training for {length} in batches of {batch}, learning rate {config.learning_rate:g}{precision}."


def _save(trainer: MLMTrainer, folder: Path, config: MLMConfig) -> list[Path]:
    """Put the model into the folder of the run, and return its files; all processes call this.

    It is written whole beside its place first: where the disk is full, what was there stays.
    """
    main = trainer.is_world_process_zero()
    staged = run_folder.staging(folder, clear=main)
    trainer.save_model(str(staged))
    return all_or_none(lambda: run_folder.take_in(staged, folder, config.to_recipe()) if main else [])


def _compare(run: Run, before: State, after: State, not_made: NotMade) -> dict[str, Any]:
    """Return what changed; where that cannot be computed, what was measured."""
    next_step = "Before and after are in metrics.json; report.html and README.md, which show the change, are not drawn."
    found = uncompared(before, after)
    with not_made.noting("the comparison of before and after", next_step):
        found |= compare(run.measured, before, after)
    return found


def _metrics(
    run: Run,
    config: MLMConfig,
    before: State,
    after: State,
    compared: dict[str, Any],
    not_made: NotMade,
    **train: Any,
) -> dict[str, Any]:
    """Return what metrics.json holds; `train` is what only the loop that ran can say."""
    started_from = {
        "command": None,
        "model": config.model,
        "random_weights": run.random_weights,
        "head_initialised": run.head_initialised,
        "parameters": run.model.num_parameters(),
    }
    with not_made.noting("the command line"):
        started_from["command"] = command_line()
    with not_made.noting("the licence of the model that training began with"):  # whose folder may be gone by now
        started_from["model_source"] = source_of(config.model)
        if started_from["model_source"] != "hub":  # there it is stated beside the model, which the card names
            started_from["model_licence"] = licence_in(model_folder(config.model) / "README.md")
    measuring: dict[str, Any] = {
        "evaluation_seconds": before.seconds + after.seconds,
        "prompts_compared": 0 if run.measured.prompts.own else len(run.measured.prompts.candidates),
        "peak_memory": None,
    }
    with not_made.noting("the peak of memory"):
        measuring["peak_memory"] = peak_memory(run.model.device)
    versions: dict[str, str] = {}
    with not_made.noting("the versions"):
        versions = run_folder.versions()
    metrics = {"corpus": run.corpus.facts} | compared | {"train": started_from | train | measuring}
    return metrics | {"versions": versions} | ({"not_made": [*not_made.entries]} if not_made.entries else {})


def _draw(folder: Path, metrics: dict[str, Any], not_made: NotMade) -> None:
    """Draw the pages of a finished run."""
    for name in run_report.FILES if "gain" in metrics else ():
        with not_made.noting(name, f"`mlm-recipes report {folder}` draws it again."):
            run_report.write(folder, [name])


def _result(metrics: dict[str, Any], folder: Path, not_made: NotMade) -> RunResult:
    return RunResult(metrics, folder, tuple(entry["what"] for entry in not_made.entries))


def _refuse_diverged(after: State, config: MLMConfig, saved: list[Path]) -> None:
    """Raise ValueError for a model that is none any more, after removing its files."""
    loss = after.held_out.summary()["loss"]
    if not math.isfinite(loss):
        for path in saved:
            path.unlink(missing_ok=True)
        raise ValueError(
            f"train: the held-out loss is {loss} after training: the run has diverged, and nothing was saved. "
            f"Accepted: a learning rate that the model bears; this was {config.learning_rate:g}. Lower --learning_rate."
        )
