"""`inspect_corpus`: reports what will happen to a text before anything is trained on it."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from ..checkpoints.contract import READING
from ..data.columns import column
from ..data.corpus import Corpus
from ..data.measures import expected_positions, histogram, line_shapes, per_row, ratio, word_pieces
from ..data.rows import to_rows, tokenize
from ..data.tokenizer import has_tokenizer, load_any_tokenizer, load_or_train_tokenizer, require_mask_token
from ..inspection_file import (
    Duplicates,
    InspectedModel,
    InspectionFacts,
    Layout,
    MeasuredFacts,
    Recommended,
    RowFacts,
    TextFacts,
    Timing,
)
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.keys import Ints
from ..masking.layout import labelled
from ..model.loading import load_model_and_missing, starts_random
from ..model.padding_free import use_padding_free
from ..model.positions import max_positions, usable_length
from ..report import advice, inspection_page
from ..sources.credentials import without_credentials
from ..sources.escaping import in_all
from ..sources.model_folder import built_in_models
from ..training.config import MLMConfig
from . import run_folder
from .arguments import default_recipe, read_config
from .pace import fit, time_steps
from .prepare import load_text

#: Marks a JSON file as an inspection, which the next one may replace.
_WRITTEN_BY = "mlm-recipes inspect"

#: No paragraph is as long as this, in tokens.
_WHOLE = 2**31 - 1

#: Warm-up steps, and timed steps.
_WARM_UP, _TIMED = 2, 5


@dataclass(frozen=True)
class InspectionResult:
    """What `inspect_corpus` returns: its `facts`, plain data for JSON; `print(result)` shows the page."""

    facts: InspectionFacts

    @property
    def ok(self) -> bool:
        """Tell whether training could start: there are no problems."""
        return not self.facts["problems"]

    def __str__(self) -> str:
        return inspection_page.page(self.facts)

    def write(self, path: str | Path | None = None) -> Path:
        """Write the facts as JSON, by default to `runs/<corpus>-inspection.json`; return the path.

        An earlier inspection is replaced. Raises: FileExistsError for any other file (`refuse_to_replace`).
        """
        stem = run_folder.file_stem(self.facts["corpus"]["name"])
        path = Path("runs") / f"{stem}-inspection.json" if path is None else Path(path)
        refuse_to_replace(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.facts, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # a lone surrogate: JSON's escape
        return path


def refuse_to_replace(path: str | Path) -> None:
    """Raise FileExistsError if `path` exists and is not an inspection."""
    path = Path(path)
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        ours = isinstance(there, dict) and there.get("written_by") == _WRITTEN_BY
    except (ValueError, OSError):  # not JSON, or a folder
        ours = False
    if not ours:
        raise FileExistsError(
            f"output: {str(path)!r} already exists and is not an inspection. Accepted: a new file, or an earlier "
            "inspection, which is replaced. Name another file with --output."
        )


def inspect_corpus(
    recipe: str | Path | MLMConfig | None = None, *, timing: bool = True, **overrides: Any
) -> InspectionResult:
    """Report what a recipe would do to a text: what is cut, padded, unknown or never masked, and the time it takes.

    Args:
        recipe, overrides: as for `train`; `corpus` and `model` are inspected.
        timing: whether to time a few optimizer steps, with a copy of the model that is discarded.

    Every ratio in the result's `facts` is a `sum` and a `count`, divided once. Anything that prevents training (such as
    a tokenizer without a mask token) is listed in its `problems`. Trains nothing, writes nothing.

    Raises: as `load_corpus`, for a text that it refuses; ValueError for a model that does not exist, or with more than
    one process.

    >>> inspect_corpus(corpus="meditations", timing=False).facts["lengths"]["longest"]
    173
    """
    started = time.monotonic()
    if recipe is None:
        recipe = default_recipe(overrides)
    config = read_config(recipe, overrides)
    if config.world_size > 1:
        raise ValueError(
            f"inspect: received {config.world_size} processes. Accepted: one. Run it without torchrun or accelerate."
        )
    subject = _Subject.of(config)
    lengths, text = _text(subject)
    rows = _rows(subject)
    measured: MeasuredFacts = {
        "written_by": _WRITTEN_BY,
        "corpus": subject.corpus.facts,
        "recipe": {
            "name": "a config of your own" if isinstance(recipe, MLMConfig) else str(recipe),
            "corpus": without_credentials(config.corpus),
            "reading": _asked_for(config),
            "max_length": subject.max_length,
            "packing": config.packing,
            "per_device_train_batch_size": config.per_device_train_batch_size,
            "mlm_probability": config.mlm_probability,
        },
        "model": subject.model_facts(),
        **text,
        **rows,
        "duplicates": _duplicates(subject.corpus),
    }
    facts: InspectionFacts = {
        **measured,
        "problems": subject.problems,
        "warnings": advice.warnings(measured),
        "recommended": _recommended(subject, measured, lengths),
        "time": _time(subject, rows["rows"]["train"]) if timing and not subject.problems else None,
        "seconds": time.monotonic() - started,
        "versions": run_folder.versions(),
    }
    return InspectionResult(facts)


def _asked_for(config: MLMConfig) -> dict[str, object]:
    """Return the values that determine how the text is read and held out, if they are not the defaults."""
    usual = MLMConfig.__dataclass_fields__
    names = ("validation_corpus", "validation_fraction", *sorted(READING))
    given = {name: getattr(config, name) for name in names if getattr(config, name) != usual[name].default}
    return in_all(given, without_credentials)


@dataclass
class _Subject:
    """The text and the model, as a run would load them, or the problems that prevent it."""

    config: MLMConfig
    corpus: Corpus
    tokenizer: Any
    model: Any  # None if it cannot be loaded
    missing_weights: list[str]
    max_length: int
    problems: list[str]

    @classmethod
    def of(cls, config: MLMConfig) -> _Subject:
        corpus = load_text(config, count_near_duplicates=True)
        problems: list[str] = []
        if has_tokenizer(config.model, config.model_revision) and not config.from_scratch:
            tokenizer: Any = load_any_tokenizer(config.model, config.model_revision, config.trust_remote_code)
            try:
                require_mask_token(tokenizer, config.model)
            except ValueError as error:
                problems.append(str(error))
        else:
            tokenizer = load_or_train_tokenizer(
                config.model, corpus["train"]["text"], **config.start(), vocab_size=config.vocab_size
            )
        set_seed(config.seed)
        model: Any = None
        missing: list[str] = []
        said = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # the page lists the missing weights
        try:
            model, missing = load_model_and_missing(config.model, tokenizer, **config.start())
        except ValueError as error:
            problems.append(str(error))
        finally:
            transformers_logging.set_verbosity(said)
        max_length = usable_length(config.max_length, model) if model is not None else config.max_length or 512
        return cls(config, corpus, tokenizer, model, missing, max_length, problems)

    def model_facts(self) -> InspectedModel:
        """Return the facts about the model."""
        positions = None if self.model is None else max_positions(self.model)
        inside = "" if self.model is None else f"{self.model.base_model_prefix}."
        return {
            "name": self.config.model,
            "parameters": None if self.model is None else self.model.num_parameters(),
            "random_weights": starts_random(self.config.model, self.config.from_scratch),
            "vocabulary": len(self.tokenizer),
            "embeddings": None if self.model is None else self.model.get_input_embeddings().num_embeddings,
            "max_positions": None if positions is None or positions >= _WHOLE else positions,
            "mask_token": self.tokenizer.mask_token,
            "missing_weights": self.missing_weights,
            "missing_in_encoder": sum(name.startswith(inside) for name in self.missing_weights),
        }

    def collator(self) -> DataCollatorForMaskedLM | None:
        """Return the run's collator; for an unsuitable tokenizer, None and one more problem."""
        if self.tokenizer.mask_token_id is None:
            return None
        try:
            return DataCollatorForMaskedLM(self.tokenizer, max_length=self.max_length, **self.config.masking())
        except ValueError as error:
            self.problems.append(str(error))
            return None


def _text(subject: _Subject) -> tuple[Ints, TextFacts]:
    """Measure the text as it is; also return the tokens of each uncut paragraph, shape `(paragraphs,)`."""
    whole = {name: tokenize(rows, subject.tokenizer, _WHOLE, "truncate") for name, rows in subject.corpus.items()}
    measured = {name: per_row(rows, subject.tokenizer) for name, rows in whole.items()}
    lengths, special, unknown, _ = (np.concatenate(column) for column in zip(*measured.values(), strict=True))
    pieces = int(lengths.sum() - special.sum())
    split = max(measured, key=lambda name: measured[name][0].max(initial=0))
    longest = int(measured[split][0].argmax())
    text = subject.corpus[split][longest]["text"]
    beyond = np.maximum(lengths - subject.max_length, 0)
    return lengths, {
        "lengths": {
            "paragraphs": len(lengths),
            "tokens": pieces,
            "tokens_with_special": int(lengths.sum()),
            "median": float(np.median(lengths)),
            "longest": int(lengths.max()),
            "longest_begins": " ".join(text[:200].split()[:12]),
            "histogram": histogram(lengths),
        },
        "longer_than_max_length": {"paragraphs": int((beyond > 0).sum()), "tokens": int(beyond.sum())},
        "unknown": ratio(int(unknown.sum()), pieces),
        "words": word_pieces(subject.corpus, subject.tokenizer, pieces),
        "lines": line_shapes(subject.corpus),
    }


def _rows(subject: _Subject) -> RowFacts:
    """Measure the rows that a run would see: what is cut off, what padding adds, and what is never masked."""
    config = subject.config
    rows = {
        name: to_rows(text, subject.tokenizer, subject.max_length, **config.rows())
        for name, text in subject.corpus.items()
    }
    cut = np.concatenate([column(split, "cut_off") for split in rows.values()])
    kept = {name: per_row(split, subject.tokenizer) for name, split in rows.items()}
    lengths, _, _, maskable = kept["train"]
    tokens, of_all = int(lengths.sum()), sum(int(found[0].sum()) for found in kept.values()) + int(cut.sum())
    batch, multiple = config.per_device_train_batch_size, config.pad_to_multiple_of or 1
    padded = np.minimum(-(-lengths // multiple) * multiple, max(subject.max_length, int(lengths.max())))
    everywhere = len(lengths) * max(subject.max_length, int(lengths.max()))
    dynamic = expected_positions(padded, batch)
    return {
        "cut_off": {"paragraphs": int((cut > 0).sum()), "tokens": ratio(int(cut.sum()), of_all)},
        "rows": {"train": len(lengths), "validation": len(kept["validation"][0]), "train_tokens": tokens},
        "padding": {
            "run": _layout(subject),
            "max_length": ratio(everywhere - tokens, everywhere),
            "longest": ratio(dynamic - tokens, dynamic),
            "padding_free": ratio(0, tokens),
        },
        "masking": {
            "mlm_probability": config.mlm_probability,
            "rows_without_a_mask": ratio(float(((1 - config.mlm_probability) ** maskable).sum()), len(maskable)),
            "rows_below_three_maskable": ratio(int((maskable < 3).sum()), len(maskable)),
            "held_out_masked_tokens": _held_out_masked(subject, rows["validation"]),
        },
    }


def _layout(subject: _Subject) -> Layout:
    """Return the run's batch layout, a key of facts["padding"]."""
    config = subject.config
    if config.padding != "longest":
        return "max_length"
    free = config.padding_free and config.pad_to_multiple_of is None and subject.model is not None
    return "padding_free" if free and use_padding_free(subject.model) is None else "longest"


def _held_out_masked(subject: _Subject, rows: Dataset) -> int | None:
    """Count the tokens that every evaluation of this text will mask."""
    collator = subject.collator()
    if collator is None:
        return None
    frozen = replace(collator.frozen(subject.config.evaluation_seed), padding="longest", padding_free=True)
    masked = sum(int(labelled(batch["labels"]).sum()) for batch in DataLoader(rows, batch_size=256, collate_fn=frozen))
    if not masked:
        subject.problems.append(
            "evaluation: none of the held-out tokens can be masked, so there is nothing to measure. Accepted: held-out "
            "text with at least one known token. Add text, raise --validation_fraction, or choose another model."
        )
    return masked


def _duplicates(corpus: Corpus) -> Duplicates:
    """Count duplicates, which are equal except for case and white space, and near duplicates."""
    return {
        "exact": corpus.facts["duplicates"],
        "near": corpus.facts["near_duplicates"],
        "dropped_as_duplicate_of_validation": corpus.facts["dropped_as_duplicate_of_validation"],
        "near_duplicates_of_validation": corpus.facts["near_duplicates_of_validation"],
    }


def _recommended(subject: _Subject, facts: MeasuredFacts, lengths: Ints) -> Recommended:
    """Return the recommended recipe, and the values that should differ for this text."""
    found = advice.advised_recipe(facts, subject.config.model in built_in_models())
    usual = read_config(found["recipe"])
    length = usual.max_length if usual.packing else None
    if length is None:
        length = advice.advised_length(lengths, facts["model"]["max_positions"] or _WHOLE)
    return {
        **found,
        "packed": usual.packing,
        "max_length": length,
        "tokens_within_max_length": ratio(int(np.minimum(lengths, length).sum()), int(lengths.sum())),
        "per_device_train_batch_size": advice.advised_batch(facts["rows"]["train"], usual.per_device_train_batch_size),
    }


def _time(subject: _Subject, examples: int) -> Timing:
    """Time the run's own first steps; with `train_minutes`, with the batch size that a run would choose."""
    config, rows = replace(subject.config, max_length=subject.max_length), subject.corpus["train"]
    timed: list[float] = []

    def time_step(batch: int) -> float:
        values = replace(config, per_device_train_batch_size=batch)
        said = bool(timed)  # the first trainer has already warned
        timed[:] = time_steps(subject.model, values, rows, subject.tokenizer, _WARM_UP, _TIMED, quiet=said)
        return median(timed)

    run_steps, rows_a_step = config.max_steps, config.per_device_train_batch_size
    if config.train_minutes is not None:
        plan = fit(config.train_minutes, run_steps, rows_a_step, time_step)
        run_steps, rows_a_step = plan.steps, plan.batch
    else:
        time_step(rows_a_step)
    step, batch = median(timed), rows_a_step * config.gradient_accumulation_steps
    steps = max(1, examples // batch) if config.dataloader_drop_last else -(-examples // batch)
    if run_steps < 1:
        run_steps = math.ceil(steps * config.num_train_epochs)
    return {
        "seconds_per_step": step,
        "steps_timed": timed,
        "batch": batch,
        "micro_batches": config.gradient_accumulation_steps,
        "precision": "bf16" if config.bf16 else "fp16" if config.fp16 else "float32",
        "device": config.device.type,
        "threads": torch.get_num_threads(),
        "steps_an_epoch": steps,
        "seconds_an_epoch": steps * step,
        "steps_of_the_run": run_steps,
        "seconds_of_the_run": run_steps * step,
    }
