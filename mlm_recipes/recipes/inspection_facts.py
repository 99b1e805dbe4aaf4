"""Measures the text, the rows that a run would see, and the model, for an inspection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from ..data.columns import column
from ..data.loaded_corpus import Corpus
from ..data.rows import to_rows, tokenize
from ..data.text_statistics import expected_positions, histogram, line_shapes, per_row, ratio, word_pieces
from ..data.tokenizer import find_tokenizer, require_mask_of
from ..data.unknown_text import lost_characters
from ..inspection_file import Duplicates, InspectedModel, Layout, RowFacts, TextFacts
from ..masking.batch_layout import labelled
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.random_keys import Ints
from ..model.embeddings import embedding_rows
from ..model.loading import load_model_and_missing, starts_random
from ..model.padding_free import use_padding_free
from ..model.positions import max_positions, usable_length
from ..training.config import MLMConfig
from ..training.optimization.new_tokens import extend_loaded
from .prepare import load_text
from .vocabulary_fit import no_known_token

#: More tokens than any paragraph has.
WHOLE = 2**31 - 1


@dataclass
class Subject:
    """The text and the model as a run would load them, and the problems that prevent a run."""

    config: MLMConfig
    corpus: Corpus
    tokenizer: Any
    model: Any  # None if it cannot be loaded
    missing_weights: list[str]
    max_length: int
    problems: list[str]

    @classmethod
    def of(cls, config: MLMConfig) -> Subject:
        """Load the text and the model of the config; a model that cannot be loaded becomes a problem."""
        corpus = load_text(config, count_near_duplicates=True)
        problems: list[str] = []
        tokenizer: Any = find_tokenizer(config.model, corpus["train"]["text"], **config.vocabulary())
        try:
            require_mask_of(tokenizer, config.model, config.tokenizer)
        except ValueError as error:
            problems.append(str(error))
        set_seed(config.seed)
        model: Any = None
        missing: list[str] = []
        said = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # the page lists the missing weights
        try:
            model, missing = load_model_and_missing(config.model, tokenizer, **config.start())
            tokenizer = extend_loaded(config, model, tokenizer, config.model).tokenizer
        except ValueError as error:
            problems.append(str(error))
        finally:
            transformers_logging.set_verbosity(said)
        default = config.default_length()
        max_length = (
            usable_length(config.max_length, model, default) if model is not None else config.max_length or default
        )
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
            "embeddings": None if self.model is None else embedding_rows(self.model),
            "max_positions": None if positions is None or positions >= WHOLE else positions,
            "mask_token": self.tokenizer.mask_token,
            "missing_weights": self.missing_weights,
            "missing_in_encoder": sum(name.startswith(inside) for name in self.missing_weights),
        }

    def collator(self) -> DataCollatorForMaskedLM | None:
        """Return a collator for evaluations; for an unsuitable tokenizer, None and one more problem."""
        if self.tokenizer.mask_token_id is None:
            return None
        try:
            values = self.config.evaluation_masking()
            return DataCollatorForMaskedLM(self.tokenizer, max_length=self.max_length, **values)
        except ValueError as error:
            self.problems.append(str(error))
            return None


def text_facts(subject: Subject) -> tuple[Ints, TextFacts]:
    """Measure the text as it is; also return the tokens of each uncut paragraph, shape `(paragraphs,)`."""
    whole = {name: tokenize(rows, subject.tokenizer, WHOLE, "truncate") for name, rows in subject.corpus.items()}
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
        "lost": lost_characters([split["text"] for split in subject.corpus.values()], subject.tokenizer),
        "words": word_pieces(subject.corpus, subject.tokenizer, pieces),
        "lines": line_shapes(subject.corpus),
    }


def row_facts(subject: Subject) -> RowFacts:
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
    collator = subject.collator()
    facts: RowFacts = {
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
            "masking_policy": config.masking_policy,
            "rows_without_a_mask": ratio(_without_a_mask(subject, collator, rows["train"], maskable), len(maskable)),
            "rows_below_three_maskable": ratio(int((maskable < 3).sum()), len(maskable)),
            "held_out_masked_tokens": _held_out_masked(subject, collator, rows["validation"]),
        },
    }
    if (schedule := config.probability_schedule()) is not None:
        facts["masking"]["schedule"] = str(schedule.within(config.max_steps))
    return facts


def _without_a_mask(subject: Subject, collator: DataCollatorForMaskedLM | None, rows: Dataset, maskable: Ints) -> float:
    """Return how many rows of an epoch have no masked token; with a schedule, on average over the run.

    It is the expected number if the policy chooses each token by itself, and otherwise that of the first epoch.
    `maskable`: the number of tokens of each row that can be masked, shape `(rows,)`.
    """
    config, points = subject.config, 100  # the run's number of steps may not be known yet
    schedule = config.probability_schedule()
    if collator is None or config.masking_policy in ("token", "informative"):
        shares = [config.mlm_probability] if schedule is None else [schedule(n, points) for n in range(points)]
        return float(np.mean([((1 - share) ** maskable).sum() for share in shares]))
    values = {"masking_policy": config.masking_policy, "mask_ngram": config.mask_ngram, "static_masks": True}
    share = config.mlm_probability if schedule is None else schedule.mean(range(points), points)
    first = collator.changed(padding="longest", loss_on="masked", mlm_probability=share, **values)
    batches = DataLoader(cast(Any, rows), batch_size=256, collate_fn=first)
    return float(sum(int((~labelled(batch["labels"]).any(1)).sum()) for batch in batches))


def _layout(subject: Subject) -> Layout:
    """Return the run's batch layout, a key of facts["padding"]."""
    config = subject.config
    if config.padding != "longest":
        return "max_length"
    free = config.padding_free and config.pad_to_multiple_of is None and subject.model is not None
    return (
        "padding_free" if free and use_padding_free(subject.model, tokenizer=subject.tokenizer) is None else "longest"
    )


def _held_out_masked(subject: Subject, collator: DataCollatorForMaskedLM | None, rows: Dataset) -> int | None:
    """Count the tokens that every evaluation of this text will mask."""
    if collator is None:
        return None
    frozen = collator.frozen(subject.config.evaluation_seed).changed(padding="longest", padding_free=True)
    masked = sum(int(labelled(batch["labels"]).sum()) for batch in DataLoader(rows, batch_size=256, collate_fn=frozen))
    if not masked:
        lost = lost_characters([subject.corpus["validation"]["text"]], subject.tokenizer)
        subject.problems.append(no_known_token("held-out", lost, subject.config.model))
    return masked


def duplicates(corpus: Corpus) -> Duplicates:
    """Count duplicates, which are equal except for case and white space, and near duplicates."""
    return {
        "exact": corpus.facts["duplicates"],
        "near": corpus.facts["near_duplicates"],
        "dropped_as_duplicate_of_validation": corpus.facts["dropped_as_duplicate_of_validation"],
        "near_duplicates_of_validation": corpus.facts["near_duplicates_of_validation"],
    }
