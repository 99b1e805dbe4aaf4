"""Prepares a run: loads its text, tokenizer and model, tokenizes the rows, and decides what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from transformers import set_seed

from ..data.columns import flat_column
from ..data.corpus import Corpus, check_held_out, load_corpus, load_paragraphs
from ..data.corpus_name import Reading, Version, resolve
from ..data.paragraphs import stream_paragraphs
from ..data.rows import lost_and_split, to_rows
from ..data.streams import HeldOut, TextStream, rows_of
from ..data.tokenizer import load_or_train_tokenizer
from ..evaluation.before_after import Measured
from ..evaluation.measured_text import MeasuredText
from ..evaluation.prompts import Prompts
from ..evaluation.word_frequencies import token_counts, word_frequency_metrics
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.policies import special_token_ids
from ..metrics_file import CorpusFacts, CutCounts, LoadedCorpus, StreamedCorpus, StreamedText, Unit, with_rows
from ..model.fit import embedding_rows
from ..model.loading import load_model_and_missing, starts_random, warn_of_missing
from ..model.positions import usable_length
from ..report import wording
from ..sources.credentials import without_credentials
from ..training.config import MLMConfig
from ..training.processes import from_main


@dataclass
class Run:
    """A prepared run, as `prepare` returns it.

    `config` is the given one, except that a file's name replaces `-` if the text came from standard input. `facts` is
    the `corpus` entry of metrics.json. `head_initialised` names the weights that the model's checkpoint lacks.
    """

    config: MLMConfig
    corpus: DatasetDict
    facts: CorpusFacts
    tokenizer: Any
    model: Any
    max_length: int
    random_weights: bool
    head_initialised: list[str]
    train_rows: Dataset | TextStream
    measured: Measured

    def collator(self) -> DataCollatorForMaskedLM:
        """Return the collator that the config describes."""
        return DataCollatorForMaskedLM(self.tokenizer, max_length=self.max_length, **self.config.masking())

    def announcement(self) -> str:
        """Return a description of the text and the model."""
        facts = self.facts
        longer = ""
        if facts["cut_off_paragraphs"] and facts["cut_off_tokens"]:
            longer = (
                f" Longer than {self.max_length} tokens: {wording.count(facts['cut_off_paragraphs'], 'paragraph')}, "
                f"of which {wording.count(facts['cut_off_tokens'], 'token')} are cut off; --long_text split keeps "
                "them."
            )
        elif facts["split_paragraphs"]:
            longer = (
                f" Longer than {self.max_length} tokens: {wording.count(facts['split_paragraphs'], 'paragraph')}, "
                f"split at the ends of sentences; {facts['rows']:,} rows in all."
            )
        start = "random weights" if self.random_weights else "its trained weights"
        elsewhere = self.config.tokenizer
        size, train = "read as a stream", ""
        if "streamed" not in facts:
            size = f"{facts['paragraphs']:,} paragraphs, {facts['words']:,} words"
            train = f"{facts['train']:,} to train on, "
        return (
            f"{facts['name']}: {size}; {train}{facts['validation']:,} held out.{longer} "
            f"{self.config.model}: {self.model.num_parameters() / 1e6:.1f}M parameters, from {start}; "
            f"{len(self.tokenizer):,} tokens in {'its vocabulary' if elsewhere is None else f'that of {elsewhere}'}."
        )


def load_text(config: MLMConfig, **more: Any) -> Corpus:
    """Load the corpus that the config describes; for `more` arguments and the errors, see `load_corpus`."""
    return load_corpus(
        config.corpus,
        validation_fraction=config.validation_fraction,
        max_eval_samples=config.max_eval_samples,
        validation_corpus=config.validation_corpus,
        seed=config.evaluation_seed,
        deduplicate=config.deduplicate,
        **config.where(),
        **config.reading(),
        **more,
    )


@dataclass
class _Stream:
    """A corpus that is streamed: its held-out text, and its first paragraphs as a sample of the rest."""

    text: TextStream
    corpus: DatasetDict
    facts: StreamedCorpus
    sample: list[str]

    @classmethod
    def open(cls, config: MLMConfig) -> _Stream:
        check_held_out(config.validation_fraction, config.max_eval_samples)
        reading, version = Reading(**config.reading()), Version(**config.where())
        source = resolve(config.corpus, reading, version, for_streaming=True)
        read = stream_paragraphs(source)
        facts = cast(StreamedText, {**source.facts(), "streamed": True})
        if config.validation_corpus is None:
            held_out = HeldOut(config.validation_fraction, config.evaluation_seed)
            chosen = from_main(lambda: held_out.choose(read(), config.max_eval_samples))
            validation = Dataset.from_dict({"text": chosen, "example_id": list(range(len(chosen)))})
        else:
            with config.main_process_first(desc="loading validation corpus"):
                validation_source = resolve(config.validation_corpus, reading)
                validation = load_paragraphs(validation_source)
            held_out = HeldOut(texts=validation["text"])
            facts["validation_corpus"] = validation_source.facts()
        text = TextStream(read, held_out)
        corpus = DatasetDict(validation=validation)
        return cls(text, corpus, {**facts, "validation": len(validation)}, from_main(text.first))


def _with_what_was_piped(config: MLMConfig, facts: LoadedCorpus | StreamedCorpus) -> MLMConfig:
    """Return the config with the file that standard input was written to, so that recipe.yaml repeats the run."""
    if config.corpus == "-":
        config = replace(config, corpus=facts["source"])
    if config.validation_corpus == "-":
        config = replace(config, validation_corpus=facts["validation_corpus"]["source"])
    return config


def prepare(config: MLMConfig, default_length: int = 512) -> Run:
    """Load the corpus and the model, tokenize, and decide what the model is measured on.

    `default_length` is the length of rows if the config sets none, or the number of the model's positions if lower.

    Raises: ValueError or OSError if something cannot be loaded, or the held-out text has no tokens to measure.
    """
    stream = _Stream.open(config) if config.streaming else None
    with config.main_process_first(desc="loading corpus and model"):  # the others then read its cache
        loaded = stream or load_text(config)
        corpus, facts = (loaded.corpus, loaded.facts) if isinstance(loaded, _Stream) else (loaded, loaded.facts)
        config = _with_what_was_piped(config, facts)
        # Trained on the training split only: a vocabulary that includes the held-out text would flatter the result.
        tokenizer = load_or_train_tokenizer(
            config.model,
            stream.sample if stream else corpus["train"]["text"],
            **config.vocabulary(),
        )
        set_seed(config.seed)
        model, missing = load_model_and_missing(config.model, tokenizer, **config.start())
        warn_of_missing(config.model, missing)
        max_length = usable_length(config.max_length, model, default_length)
        rows = {part: to_rows(corpus[part], tokenizer, max_length, **config.rows()) for part in corpus}
        cut = _cut_counts(max_length, None if stream else [lost_and_split(part) for part in rows.values()])
        random_weights = starts_random(config.model, config.from_scratch)
        if config.general_corpus.lower() != "none" and not random_weights:  # random weights have nothing to forget
            text = load_paragraphs(resolve(config.general_corpus, Reading(**config.reading())))
            rows["general"] = to_rows(text, tokenizer, max_length, **config.rows())
            cut["general"] = without_credentials(config.general_corpus)
    if config.prompts is None:
        held_out = corpus["validation"]["text"]
        prompts = Prompts.choose(held_out, tokenizer, config.evaluation_seed, config.prompts_compared, max_length)
    else:
        prompts = Prompts.read(config.prompts, tokenizer.mask_token)
    sample = rows_of(stream.sample, tokenizer, max_length, **config.rows()) if stream else None
    special_ids = special_token_ids(tokenizer)
    unit: Unit = "rows" if config.packing else "paragraphs"
    texts = {
        part: MeasuredText.of(
            name, rows[part], special_ids, config.evaluation_seed, draws=config.eval_draws, budget=budget, unit=unit
        )
        for part, name, budget in (
            ("validation", facts["name"], config.pseudo_perplexity_tokens),
            ("general", cut.get("general", ""), config.pseudo_perplexity_tokens // 2),
        )
        if part in rows
    }
    counts = token_counts(
        flat_column(rows["train"], "input_ids") if sample is None else (row["input_ids"] for row in sample),
        embedding_rows(model),
    )
    collator = DataCollatorForMaskedLM(tokenizer, max_length=max_length, **config.masking())
    labels = _frozen_labels(texts["validation"], collator, config.evaluation_seed)
    words = word_frequency_metrics(counts, labels, special_ids)
    return Run(
        config=config,
        corpus=corpus,
        facts=with_rows(facts, cut, {"loss": words["loss"], "accuracy": words["accuracy"]}),
        tokenizer=tokenizer,
        model=model,
        max_length=max_length,
        random_weights=random_weights,
        head_initialised=missing,
        train_rows=stream.text if stream else rows["train"],
        measured=Measured(texts["validation"], texts.get("general"), prompts, counts, tokenizer),
    )


def _cut_counts(max_length: int, parts: list[dict[str, int]] | None) -> CutCounts:
    """Return the totals of `lost_and_split` over all parts; None for a stream, whose rows are not known."""

    def total(name: str) -> int | None:
        return None if parts is None else sum(part[name] for part in parts)

    return {
        "max_length": max_length,
        "cut_off_paragraphs": total("cut_off_paragraphs"),
        "cut_off_tokens": total("cut_off_tokens"),
        "split_paragraphs": total("split_paragraphs"),
        "rows": total("rows"),
    }


def _frozen_labels(text: MeasuredText, collator: DataCollatorForMaskedLM, seed: int) -> Iterator[torch.Tensor]:
    """Yield the labels of all of a text's draws, batch by batch."""
    for draw in range(text.draws):
        for batch in DataLoader(text.rows, batch_size=64, collate_fn=collator.frozen(seed, draw)):
            yield batch["labels"]
