"""`reference`: the tutorial's own loop, measured and saved as `train` does."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from transformers import set_seed

from ..checkpoints.tokenizer_files import use_known_class
from ..data.prepared_corpus import names_prepared
from ..evaluation.before_after import State
from ..evaluation.token_results import TokenResults, evaluate_tokens
from ..metrics_file import Metrics
from ..model.sparse_prediction import unsupported
from ..sources.credentials import without_credentials
from ..training.config import MLMConfig
from ..training.faults.tolerated_failures import NotMade
from . import reference_loop, run_folder
from .arguments import read_config
from .plan import output_folder
from .prepare import prepare
from .result import (
    RunResult,
    compare_states,
    draw_pages,
    metrics_of,
    plan_of,
    refuse_diverged,
    refuse_push,
    refuse_resume,
    result_of,
    warn_of_other_words,
)
from .similarity import refuse_similarity

#: The values that the tutorial's loop has built in; a recipe with a different one is refused.
_TUTORIAL = {
    "loss_on": "all",
    "static_masks": True,
    "padding": "max_length",
    "mask_replace_prob": 1.0,
    "masking_policy": "token",
    "mlm_probability_schedule": "constant",
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "max_grad_norm": 0.0,
    "decay_bias_and_norm": True,
    "layerwise_lr_decay": 1.0,
    "freeze": "none",
    "head_warmup_steps": 0.0,
    "muon": False,
    "peft": "none",
    "packing": False,
    "long_text": "truncate",
    "max_steps": -1,
    "train_minutes": None,
    "mix": None,
    "gradient_accumulation_steps": 1,
    "bf16": False,
    "fp16": False,
    "streaming": False,
    "tokens_per_batch": None,
    "global_batch_size": None,
    "train_new_tokens_first": None,
    "report_to": [],
    "probe": None,
}

logger = logging.getLogger(__name__)


def reference(recipe: str | Path | MLMConfig | None = "tutorial", **overrides: Any) -> RunResult[Metrics]:
    """Run the tutorial's own loop (reference_loop.py) on a corpus, measured and saved as `train` does.

    The loop pads to `max_length`, draws the masks once, computes the loss on all positions, and keeps the learning rate
    constant. It uses the recipe's corpus, model, max_length, mlm_probability, batch size, epochs, learning rate, weight
    decay and seed. It runs in one process.

    Raises: as `train`; ValueError for a value that the loop does not support, or a fractional number of epochs.
    """
    config = read_config(recipe, overrides)
    refuse_resume(config, "reference")
    refuse_push(config, "reference")
    if names_prepared(config.corpus):
        raise ValueError(
            f"corpus: received {without_credentials(config.corpus)!r}, a prepared corpus. Accepted here: a text, since "
            "the tutorial's loop tokenizes it. Name the text, or use `mlm-recipes train`."
        )
    refuse_similarity(config, "reference")
    for name, value in _TUTORIAL.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}: received {getattr(config, name)!r}. Accepted here: {value!r}, since the tutorial's loop "
                "supports nothing else. Start from recipes/tutorial.yaml, or use `mlm-recipes train`."
            )
    if config.world_size > 1:
        raise ValueError(
            f"reference: received {config.world_size} processes. Accepted: one, since the tutorial's loop supports "
            "nothing else. Start it without torchrun, or use `mlm-recipes train`."
        )
    if config.num_train_epochs != int(config.num_train_epochs) or config.num_train_epochs < 1:
        raise ValueError(
            f"num_train_epochs: received {config.num_train_epochs}. Accepted here: a whole number from 1, since "
            "the tutorial's loop supports nothing else. Pass --num_train_epochs 2."
        )
    run_folder.refuse_to_overwrite(output_folder(config), config.overwrite)
    run = prepare(config)
    config = run.config
    folder = run_folder.claim(output_folder(config), f"{run.facts['name']}-reference")
    run_folder.write_recipe(folder, config.to_recipe())
    logger.info("%s %s", run.announcement(), plan_of(config))

    run.model.to(config.device)

    sparse = unsupported(run.model, tokenizer=run.tokenizer) is None

    def token_results(rows: Any, draw: int) -> TokenResults:
        collator = run.frozen(draw)
        return TokenResults.of([evaluate_tokens(run.model, rows, collator, config.per_device_eval_batch_size, sparse)])

    before = State.of(run.measured, run.model, token_results, original=True)
    warn_of_other_words(run, before)
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
    use_known_class(staged)
    saved = run_folder.take_in(staged, folder, config.to_recipe())
    not_made = NotMade(folder)
    with not_made.trained():
        after = State.of(run.measured, run.model, token_results)
    refuse_diverged(after, config, saved)
    with not_made.trained():
        metrics = metrics_of(
            run,
            config,
            before,
            after,
            compare_states(run, before, after, not_made),
            not_made,
            {
                "recipe": "reference",
                "seconds": seconds,
                "steps": len(losses),
                "epochs": config.num_train_epochs,
                "processes": 1,
                "history": [
                    {"step": step, "loss": loss, "learning_rate": config.learning_rate}
                    for step, loss in enumerate(losses, start=1)
                ],
                "evaluations": [],
                "tokens": None,
                "steps_per_second": len(losses) / seconds,
                "tokens_per_second": None,
            },
        )
        run_folder.write_metrics(folder, metrics)
    draw_pages(folder, metrics, not_made)
    return result_of(metrics, folder, not_made)
