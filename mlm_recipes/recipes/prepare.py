"""Prepares a run: loads its text, tokenizer and model, tokenizes the rows, and decides what is measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from transformers import set_seed

from ..data.columns import flat_column
from ..data.copies import measured_once
from ..data.corpus import check_held_out, load_corpus, load_paragraphs
from ..data.corpus_name import Reading, Version, resolve
from ..data.loaded_corpus import Corpus
from ..data.mixed_rows import MixedRows
from ..data.mixed_text import measured_part
from ..data.paragraphs import stream_paragraphs
from ..data.prepared_corpus import names_prepared
from ..data.rows import lost_and_split, to_rows
from ..data.streams import HeldOut, TextStream, rows_of
from ..data.text_cache import digests
from ..data.tokenizer import load_or_train_tokenizer
from ..evaluation.before_after import Measured
from ..evaluation.measured_text import MeasuredText
from ..evaluation.probes.probe import Probe
from ..evaluation.prompts import Prompts
from ..evaluation.word_frequencies import token_counts, word_frequency_metrics
from ..evaluation.word_likelihood import MeasuredWords
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.random_keys import Ints
from ..masking.vocabulary import special_token_ids
from ..metrics_file import (
    CorpusFacts,
    CutCounts,
    FrequencyScores,
    HeldOutParagraphs,
    LoadedCorpus,
    PreparedCorpus,
    StreamedCorpus,
    StreamedText,
    Unit,
    with_rows,
)
from ..model.embeddings import embedding_rows
from ..model.loading import load_model_and_missing, starts_random
from ..model.lora import Lora
from ..model.positions import usable_length
from ..report.first_screen import about_the_text
from ..report.mixed_text import will_be_mixed
from ..sources.credentials import without_credentials
from ..training.batches.mix_option import mixes_general
from ..training.batches.token_steps import steps_of_tokens
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.optimization.adapters import add_adapter, saved_as
from ..training.optimization.new_tokens import announcement, extend_loaded
from .mixing import mixed_rows
from .prepared_text import PreparedText
from .vocabulary_fit import count_unknown, known_tokens, require_known

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A prepared run, as `prepare` returns it.

    `config` is the given one, except that a file's name replaces `-` if the text came from standard input. `facts` is
    the `corpus` entry of metrics.json. `head_initialised` names the weights that the model's checkpoint lacks. `lora`
    is the adapter that was added to the model, if any. `original_tokenizer` is the one before words were added to it.
    """

    config: MLMConfig
    corpus: DatasetDict
    facts: CorpusFacts
    tokenizer: Any
    model: Any
    max_length: int
    random_weights: bool
    head_initialised: list[str]
    train_rows: Dataset | TextStream | MixedRows
    measured: Measured
    lora: Lora | None = None
    original_tokenizer: Any = None
    probes: list[Probe] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """The number of the model's own parameters, without those of an adapter."""
        return self.lora.parameters if self.lora is not None else int(self.model.num_parameters())

    def frozen(self, draw: int = 0) -> DataCollatorForMaskedLM:
        """Return the collator of evaluations, with one draw of their masks."""
        return _evaluating(self.config, self.tokenizer, self.max_length).frozen(self.config.evaluation_seed, draw)

    def announcement(self) -> str:
        """Return a description of the text and the model."""
        rows = cast(Any, self.train_rows)
        batch = self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps
        steps, epochs = self.config.max_steps, self.config.num_train_epochs
        if "mixed" in self.facts and steps > 0:
            of_tokens = steps_of_tokens(rows, self.config)
            an_epoch = len(rows) / (batch * self.config.world_size) if of_tokens is None else of_tokens.steps
            epochs = steps / an_epoch
        mixed = "".join(f"{sentence} " for sentence in will_be_mixed(self.facts, epochs))
        start = "random weights" if self.random_weights else "its trained weights"
        elsewhere = self.config.tokenizer
        return (
            f"{about_the_text(self.facts, self.measured.held_out.repeated)} {mixed}"
            f"{self.config.model}: {self.parameters / 1e6:.1f}M parameters, from {start}; "
            f"{len(self.tokenizer):,} tokens in {'its vocabulary' if elsewhere is None else f'that of {elsewhere}'}."
            + ("" if self.lora is None else f" {self.lora} {saved_as(self.config)}")
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
        facts = cast(StreamedText, {**source.facts(), **from_main(read.facts), "streamed": True})
        if config.validation_corpus is None and source.held_out_files:
            with config.main_process_first(desc="loading the validation split"):
                validation = cast(Dataset, read.own_validation())
            held_out = HeldOut(texts=validation["text"])
        elif config.validation_corpus is None:
            held_out = HeldOut(config.validation_fraction, config.evaluation_seed)
            chosen = from_main(lambda: held_out.choose(read(), config.max_eval_samples))
            validation = Dataset.from_dict(
                {"text": chosen, "example_id": np.arange(len(chosen)), "digest": digests(chosen)}
            )
        else:
            with config.main_process_first(desc="loading validation corpus"):
                validation_source = resolve(config.validation_corpus, reading)
                validation = load_paragraphs(validation_source)
            held_out = HeldOut(texts=validation["text"])
            facts["validation_corpus"] = validation_source.facts()
        text = TextStream(read, held_out)
        measured = measured_once(validation, config.max_eval_samples, config.evaluation_seed)
        corpus = DatasetDict(validation=measured.rows.select_columns(["text", "example_id"]))
        counts: HeldOutParagraphs = {
            "validation": len(measured.rows),
            "held_out_copies": measured.copies,
            "held_out_not_measured": measured.beyond,
        }
        return cls(text, corpus, {**facts, **counts}, from_main(text.first))


def _with_what_was_piped(config: MLMConfig, facts: LoadedCorpus | StreamedCorpus | PreparedCorpus) -> MLMConfig:
    """Return the config with the file that standard input was written to, so that recipe.yaml repeats the run."""
    if config.corpus == "-":
        config = replace(config, corpus=facts["source"])
    if config.validation_corpus == "-":
        assert "prepared" not in facts, "of which no value may say what is held out"
        config = replace(config, validation_corpus=facts["validation_corpus"]["source"])
    return config


def prepare(config: MLMConfig, default_length: int | None = None) -> Run:
    """Load the corpus and the model, tokenize, and decide what the model is measured on.

    `default_length` is the length of rows if the config sets none, or the number of the model's positions if lower; by
    default the config's (`MLMConfig.default_length`).

    Raises: ValueError or OSError if something cannot be loaded, or if the vocabulary has no token of the training text
    or of the held-out text.
    """
    from_shards = names_prepared(config.corpus)
    stream = _Stream.open(config) if config.streaming and not from_shards else None
    with config.main_process_first(desc="loading corpus and model"):  # the others then read its cache
        prepared = PreparedText.open(config) if from_shards else None
        config = prepared.config if prepared else config
        loaded = stream or prepared or load_text(config)
        corpus, facts = (loaded, loaded.facts) if isinstance(loaded, Corpus) else (loaded.corpus, loaded.facts)
        config = _with_what_was_piped(config, facts)
        # Trained on the training split only: a vocabulary that includes the held-out text would flatter the result.
        tokenizer = prepared.tokenizer() if prepared else load_or_train_tokenizer(
            config.model, stream.sample if stream else corpus["train"]["text"], **config.vocabulary()
        )  # fmt: skip
        set_seed(config.seed)
        model, missing = load_model_and_missing(config.model, tokenizer, **config.start())
        added, original = extend_loaded(config, model, tokenizer, config.model), tokenizer
        tokenizer = added.tokenizer
        if (said := announcement(added, config.freeze)) is not None:
            logger.info(said)
        lora = add_adapter(config, model, tokenizer, config.model)
        if prepared:
            prepared.require_fit(tokenizer)
        max_length = usable_length(config.max_length, model, default_length or config.default_length())
        rows = {part: to_rows(corpus[part], tokenizer, max_length, **config.rows()) for part in corpus}
        lost = [lost_and_split(part) for part in rows.values()] + ([prepared.lost_and_split()] if prepared else [])
        cut = _cut_counts(max_length, None if stream else lost)
        random_weights, measured = starts_random(config.model, config.from_scratch), [*corpus["validation"]["text"]]
        if config.general_corpus.lower() != "none" and not random_weights:  # random weights have nothing to forget
            source, divided = resolve(config.general_corpus, Reading(**config.reading())), mixes_general(config)
            general = measured_part(source, config.max_eval_samples, config.evaluation_seed, divided)
            rows["general"] = to_rows(general.rows, tokenizer, max_length, **config.rows())
            cut["general"] = without_credentials(config.general_corpus)
            cut["general_copies"], cut["general_not_measured"] = general.copies, 0 if divided else general.beyond
            measured += general.rows["text"]
        train_rows = stream.text if stream else prepared.rows if prepared else rows["train"]
        if config.mix and not stream:
            of_text = rows["train"], measured, tokenizer, max_length, embedding_rows(model)
            train_rows, cut["mixed"] = mixed_rows(config, *of_text)
    if config.prompts is None:
        held_out = corpus["validation"]["text"]
        prompts = Prompts.choose(held_out, tokenizer, config.evaluation_seed, config.prompts_compared, max_length)
    else:
        prompts = Prompts.read(config.prompts, tokenizer.mask_token)
    vocabulary = embedding_rows(model)
    if stream:
        first = rows_of(stream.sample, tokenizer, max_length, **config.rows())
        counts = token_counts((row["input_ids"] for row in first), vocabulary)
    elif prepared:
        counts = prepared.rows.counts(vocabulary)
    else:
        counts = token_counts(flat_column(rows["train"], "input_ids"), vocabulary)
    of_part = {part: token_counts(flat_column(rows[part], "input_ids"), vocabulary) for part in rows if part != "train"}
    sample = stream.sample if stream else [] if prepared else corpus["train"]["text"]
    read = [corpus["validation"]["text"], sample]
    unknown = count_unknown(read, counts + of_part["validation"], tokenizer)
    require_known("training", known_tokens(counts, tokenizer), unknown, config.model)
    require_known("held-out", known_tokens(of_part["validation"], tokenizer), unknown, config.model)
    if "general" in rows and not known_tokens(of_part["general"], tokenizer):
        logger.warning("%s is not measured: none of its words is in the vocabulary.", cut["general"])
        del rows["general"], cut["general"]
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
    words = MeasuredWords.of(
        corpus["validation"], tokenizer, original, [*added.pieces], max_length, config.evaluation_seed,
        config.pseudo_perplexity_tokens,
    )  # fmt: skip
    collator = _evaluating(config, tokenizer, max_length)
    alone = _frequency_scores(counts, texts["validation"], collator, config.evaluation_seed)
    if "general" in texts:  # a model that is worse than this text's own frequencies has nothing to forget
        own = of_part["general"]
        cut["general_word_frequencies"] = _frequency_scores(own, texts["general"], collator, config.evaluation_seed)
    return Run(
        config=config,
        corpus=corpus,
        facts=with_rows(facts, {**cut, "unknown": unknown, "word_frequencies": alone}),
        tokenizer=tokenizer,
        model=model,
        max_length=max_length,
        random_weights=random_weights,
        head_initialised=missing,
        train_rows=train_rows,
        measured=Measured(texts["validation"], texts.get("general"), prompts, counts, tokenizer, words),
        lora=lora,
        original_tokenizer=original,
    )


def _evaluating(config: MLMConfig, tokenizer: Any, max_length: int) -> DataCollatorForMaskedLM:
    """Return a collator for evaluations only; they do not mask by the config's policy, which may need to know more."""
    return DataCollatorForMaskedLM(tokenizer, max_length=max_length, **config.evaluation_masking())


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


def _frequency_scores(
    counts: Ints, text: MeasuredText, collator: DataCollatorForMaskedLM, seed: int
) -> FrequencyScores:
    """Return the score of guessing a text's masked tokens, in all draws, by the frequency of each token."""
    batches = (
        batch["labels"]
        for draw in range(text.draws)
        for batch in DataLoader(cast(Any, text.rows), batch_size=64, collate_fn=collator.frozen(seed, draw))
    )
    found = word_frequency_metrics(counts, batches, special_token_ids(collator.tokenizer))
    return {"loss": found["loss"], "accuracy": found["accuracy"]}
