"""`finetune` compares a run's encoder, before and after training, by fine-tuning both for a task of the user's."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics_file
from ..data.labelled_split import hold_out
from ..data.labelled_texts import LabelledTexts, load_labelled
from ..data.tokenizer import load_tokenizer
from ..evaluation.seeds_and_examples import FEWEST_SEEDS, crossed_change, macro_f1, macro_f1_change
from ..finetune_file import SCHEMA_VERSION, Finetuned, FinetuneFile, FinetuneSettings, FinetuneTexts
from ..model.loading import load_model
from ..model.positions import usable_length
from ..report.finetuning import summary
from ..report.wording import about, count
from ..training.speed.precision import has_fast_bf16
from .classifier import Encoder, Task, answers
from .run_folder import FINETUNE, versions, write_json
from .starting_model import starting_model

logger = logging.getLogger(__name__)

#: Stands for the model that the run started from.
BEFORE = "before"

#: Each fine-tuning reads its texts three times, as BERT's authors did, and takes at least so many steps: with few
#: texts, fine-tuning is unstable if it ends early (Mosbach et al. 2021, https://arxiv.org/abs/2006.04884).
EPOCHS, FEWEST_STEPS = 3, 300

#: The learning rate by the number of parameters, in millions: small models need a higher one (Turc et al. 2019,
#: https://arxiv.org/abs/1908.08962, fine-tune at up to 3e-4; Devlin et al. 2019 at 2e-5 to 5e-5).
_RATES = ((20, 3e-4), (60, 1e-4), (200, 5e-5))
_RATE_OF_LARGE = 2e-5

#: Fewer held-out texts show nothing.
_FEWEST_HELD = 20


@dataclass(frozen=True)
class Finetuning:
    """The result of a comparison: what finetune.json has of it, and the folder of the run."""

    facts: Finetuned
    folder: Path

    def __str__(self) -> str:
        return f"{summary(self.facts)}\n\nAll figures are in {self.folder / FINETUNE}."


def finetune(
    run: str | Path,
    on: str,
    against: str = BEFORE,
    *,
    seeds: int = FEWEST_SEEDS,
    max_steps: int | None = None,
    batch_size: int = 16,
    learning_rate: float | None = None,
    max_length: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
) -> Finetuning:
    """Fine-tune a run's encoder and another one for the same classification, and compare them.

    Args:
        run: the folder of a finished run.
        on: a table of texts with labels, named as for `mlm_recipes.data.labelled_texts.load_labelled`. A quarter of
            each label's texts is measured, and never trained on.
        against: `before`, the model that the run started from; or another model: a built-in name, a folder or a hub id.
        seeds: how many times each encoder is fine-tuned, with the seeds 0, 1, 2, ...; at least five.
        max_steps: of each fine-tuning; by default three epochs, and at least 300 steps.
        batch_size: texts per step.
        learning_rate: by default 3e-4 for a model of fewer than 20 million parameters, 1e-4 for fewer than 60 million,
            5e-5 for fewer than 200 million, otherwise 2e-5; the same for both.
        max_length: tokens per text; longer ones are cut off. By default 512, or as many as both models take.
        text_column, label_column: by default chosen.
        encoding: of text files.

    Writes finetune.json into the run folder. A result for other texts, another model or other settings is kept there.

    Raises: FileNotFoundError if `run` is not a finished run; ValueError if the model compared with cannot be loaded,
    for a table that is none of labelled texts, or an option that is out of range; in more than one process, too.
    """
    folder = Path(run).expanduser()
    metrics_file.read(folder, "finetune")
    _check(seeds, max_steps, batch_size, learning_rate, max_length)
    _earlier(folder / FINETUNE)  # one that cannot be read is refused now
    labelled = _labelled(on, text_column, label_column, encoding)
    held = hold_out(labelled.texts, labelled.labels)
    task, texts = _task(labelled, held)
    with tempfile.TemporaryDirectory() as place:
        tokenizer: Any = load_tokenizer(folder)
        model: Any = load_model(folder, tokenizer)
        other_model, other_tokenizer, name = _other(folder, against, tokenizer)
        rate = learning_rate or rate_for(model.num_parameters())
        steps = max_steps or max(FEWEST_STEPS, ceil(EPOCHS * len(task.texts) / batch_size))
        length = min(usable_length(max_length, each, 512) for each in (model, other_model))
        settings: FinetuneSettings = {
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": rate,
            "warmup_steps": steps // 10,
            "weight_decay": 0.01,
            "max_length": length,
            "precision": "bf16" if has_fast_bf16(not torch.accelerator.is_available()) else "float32",
        }
        after = Encoder.keep(str(run), model, tokenizer, Path(place) / "after")
        before = Encoder.keep(name, other_model, other_tokenizer, Path(place) / "before")
        del model, other_model
        logger.info(
            "%d fine-tunings of %s, %d seeds with each encoder: %s on %s, learning rate %g; %s are measured.",
            2 * seeds, count(steps, "step"), seeds, labelled.name, count(len(task.texts), "text"), rate,
            f"{len(task.held):,} others",
        )  # fmt: skip
        found: list[list[Any]] = [[], []]
        started = time.monotonic()
        for seed in range(seeds):
            for number, encoder in enumerate((before, after)):
                found[number].append(answers(encoder, task, settings, seed))
            right = [100 * float((side[-1] == labelled.labels[held]).mean()) for side in found]
            left = (time.monotonic() - started) / (seed + 1) * (seeds - seed - 1)
            more = f" About {about(left)} left." if left else ""
            logger.info("Seed %d, %d of %d: %.1f%% before, %.1f%% after.%s", seed, seed + 1, seeds, *right, more)
    facts = _facts(texts, labelled.labels[held], task.kinds, found, name, against == BEFORE, settings)
    write_json(folder / FINETUNE, _with(_earlier(folder / FINETUNE), facts))  # another one may have ended since
    return Finetuning(facts, folder)


def rate_for(parameters: int) -> float:
    """Return the learning rate for a model with so many parameters.

    >>> rate_for(4_800_000), rate_for(110_000_000), rate_for(335_000_000)
    (0.0003, 5e-05, 2e-05)
    """
    return next((rate for millions, rate in _RATES if parameters < millions * 1e6), _RATE_OF_LARGE)


def _check(
    seeds: int, max_steps: int | None, batch_size: int, learning_rate: float | None, max_length: int | None
) -> None:
    if seeds < FEWEST_SEEDS:
        raise ValueError(
            f"seeds: received {seeds}. Accepted: {FEWEST_SEEDS} or more, since one fine-tuning differs from the next "
            "with another seed by more than two encoders usually do. Leave it out."
        )
    for name, value, least in (
        ("max_steps", max_steps, 1),
        ("batch_size", batch_size, 1),
        ("max_length", max_length, 3),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name}: received {value}. Accepted: {least} or more. Leave it out.")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise ValueError(f"learning_rate: received {learning_rate}. Accepted: above 0, below 1. Leave it out.")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError(
            "finetune: received several processes. Accepted: one, which uses one device. Start it without torchrun or "
            "accelerate launch."
        )


def _labelled(on: str, text_column: str | None, label_column: str | None, encoding: str) -> LabelledTexts:
    try:
        return load_labelled(on, text_column=text_column, label_column=label_column, most=10**9, encoding=encoding)
    except ValueError as error:  # it is named as a probe's
        said = str(error).replace("probe_text_column", "text_column").replace("probe_label_column", "label_column")
        raise ValueError(f"on:{said.removeprefix('probe:')}" if said.startswith("probe:") else said) from error


def _task(labelled: LabelledTexts, held: Any) -> tuple[Task, FinetuneTexts]:
    labels, names = labelled.labels, labelled.names
    measured = np.bincount(labels[held], minlength=len(names))
    unknown = sorted(set(range(len(names))) - set(labels[~held].tolist()))
    if held.sum() < _FEWEST_HELD or unknown:
        why = f"{int(held.sum())} held-out texts" if not unknown else f"no text with {names[unknown[0]]!r} to train on"
        raise ValueError(
            f"on: {labelled.name!r} leaves {why}. Accepted: {_FEWEST_HELD} held-out texts, a quarter of all, or more, "
            "and several texts with each label. Add labelled texts."
        )
    task = Task(
        [labelled.texts[index] for index in np.flatnonzero(~held)],
        labels[~held],
        [labelled.texts[index] for index in np.flatnonzero(held)],
        len(names),
    )
    texts: FinetuneTexts = {
        "name": labelled.name,
        "source": labelled.source,
        "fingerprint": labelled.fingerprint(),
        "text_column": labelled.text_column,
        "label_column": labelled.label_column,
        "trained": len(task.texts),
        "measured": len(task.held),
        "labels": {name: int(number) for name, number in zip(names, measured.tolist(), strict=True)},
    }
    return task, texts


def _other(run: Path, against: str, tokenizer: Any) -> tuple[Any, Any, str]:
    """Return the model compared with, its tokenizer, and its name."""
    if against != BEFORE:
        own = load_tokenizer(against)
        return load_model(against, own), own, against
    try:
        model, tokenizer, name, _ = starting_model(run, tokenizer)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"against: the model that {str(run)!r} started from cannot be loaded: {error} If it was moved, name it: "
            "--against PATH."
        ) from error
    return model, tokenizer, name


def _facts(
    texts: FinetuneTexts,
    labels: Any,
    kinds: int,
    found: list[list[Any]],
    name: str,
    as_before: bool,
    settings: FinetuneSettings,
) -> Finetuned:
    before, after = (np.stack(side) for side in found)  # (seeds, held)
    accuracy = crossed_change((before == labels).astype(np.float64), (after == labels).astype(np.float64))
    return {
        "on": texts,
        "against": name,
        "as_before": as_before,
        "settings": settings,
        "accuracy": accuracy,
        "macro_f1": macro_f1_change(labels, before, after, kinds),
        "seeds": [
            {
                "seed": seed,
                "accuracy_before": float((before[seed] == labels).mean()),
                "accuracy_after": float((after[seed] == labels).mean()),
                "macro_f1_before": macro_f1(labels, before[seed], kinds),
                "macro_f1_after": macro_f1(labels, after[seed], kinds),
            }
            for seed in range(len(before))
        ],
        "versions": versions(),
    }


def _earlier(path: Path) -> list[Finetuned]:
    """Return the results that a run's finetune.json has already.

    Raises: ValueError for a file that this version cannot add to.
    """
    if not path.exists():
        return []
    try:
        held: FinetuneFile = json.loads(path.read_text("utf-8"))
        if held["schema_version"] == SCHEMA_VERSION:
            return held["tasks"]
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"finetune: {str(path)!r} does not hold results of this version. Accepted: a file that it can add to, or none. "
        "Move it away."
    )


def _with(earlier: list[Finetuned], facts: Finetuned) -> FinetuneFile:
    def identity(each: Finetuned) -> Any:
        return each["on"]["fingerprint"], each["against"], each["settings"], len(each["seeds"])

    kept = [each for each in earlier if identity(each) != identity(facts)]
    return {"schema_version": SCHEMA_VERSION, "tasks": [*kept, facts]}
