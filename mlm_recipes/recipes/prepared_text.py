"""A prepared corpus as a run uses it: its rows, its held-out text, and the values that belong to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from ..data.all_ids import fingerprint
from ..data.copies import measured_once
from ..data.prepared_corpus import local_folder, names_prepared
from ..data.prepared_files import TOKENIZER
from ..data.prepared_index import PreparedIndex, read_index
from ..data.prepared_plan import RowRules
from ..data.prepared_rows import PreparedRows, held_out_text
from ..data.streams import rows_of
from ..data.text_cache import digests
from ..data.tokenizer import load_or_train_tokenizer, load_tokenizer, vocabulary_fingerprint
from ..masking.policy_table import POLICIES
from ..metrics_file import PreparedCorpus
from ..model.loading import starts_random
from ..sources.credentials import without_credentials
from ..training.config import MLMConfig

logger = logging.getLogger(__name__)

#: What a tokenizer makes of the first so many held-out paragraphs tells whether it is the one that made the rows.
_COMPARED = 200

#: Values that say how a text is read or divided, which was decided when it was prepared.
_DECIDED = ("corpus_config", "corpus_split", "corpus_revision", "corpus_sha256", "validation_corpus", "deduplicate")

#: Values of a run that are the corpus's where the run leaves them at their defaults.
_ITS_OWN = (*RowRules.__annotations__, "validation_fraction")


def left_to_the_corpus(config: MLMConfig) -> set[str]:
    """Return the names of the values that a run takes over from a prepared corpus, whatever they are there.

    They are in the run's recipe.yaml, and not in the request that started it.

    >>> left_to_the_corpus(MLMConfig(corpus="meditations"))
    set()
    """
    if not names_prepared(config.corpus):
        return set()
    usual = MLMConfig.__dataclass_fields__
    return {name for name in _ITS_OWN if getattr(config, name) == usual[name].default}


@dataclass
class PreparedText:
    """A corpus that `mlm-recipes prepare` made.

    Attributes:
        config: the run's config, with the values that the rows were made by.
        index: what is in it.
        folder: where it is, on this disk.
        rows: the rows to train on.
        corpus: the held-out text, as `validation`.
        facts: `corpus` of metrics.json, without what is known of the held-out rows only.
    """

    config: MLMConfig
    index: PreparedIndex
    folder: Path
    rows: PreparedRows
    corpus: DatasetDict
    facts: PreparedCorpus

    @classmethod
    def open(cls, config: MLMConfig) -> PreparedText:
        """Open the corpus that a config names; one elsewhere is fetched first.

        Raises: ValueError for one that is not complete, and for values that do not fit it.
        """
        _refuse_unusable(config)
        folder = local_folder(config.corpus)
        index = read_index(folder)
        config = _with_its_rules(config, index)
        validation = held_out_text(folder)
        validation = validation.add_column("digest", digests(validation["text"]))
        measured = measured_once(validation, config.max_eval_samples, config.evaluation_seed)
        rows, origin, held_out = PreparedRows.open(folder, index), index.plan["corpus"], index.plan["held_out"]
        words = sum(len(text.split()) for text in measured.rows["text"])
        train = index.total("paragraphs")
        facts: PreparedCorpus = {
            "name": origin["name"],
            "source": without_credentials(config.corpus),
            "prepared": {
                "shards": len(index.shards),
                "rows": len(rows),
                "tokens": index.total("tokens"),
                "fingerprint": index.fingerprint,
                "text": origin["source"],
            },
            "paragraphs": train + len(measured.rows),
            "words": index.total("words") + words,
            "train": train,
            "validation": len(measured.rows),
            "held_out_copies": held_out["copies"],
            "held_out_not_measured": held_out["not_measured"] + measured.beyond,
        }
        if "licence" in origin:
            facts["licence"] = origin["licence"]
        if "text_column" in origin:
            facts["text_column"] = origin["text_column"]
        if "splits" in origin:
            facts["splits"] = origin["splits"]
        corpus = DatasetDict(validation=measured.rows.select_columns(["text", "example_id"]))
        return cls(config, index, folder, rows, corpus, facts)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer of a run on these rows: for random weights the corpus's own, otherwise the model's."""
        config = self.config
        if config.tokenizer is None and starts_random(config.model, config.from_scratch):
            return load_tokenizer(self.folder / TOKENIZER)
        return load_or_train_tokenizer(config.model, None, **config.vocabulary())

    def lost_and_split(self) -> dict[str, int]:
        """Return what `mlm_recipes.data.rows.lost_and_split` counts, for all rows to train on."""
        names = ("cut_off_paragraphs", "cut_off_tokens", "split_paragraphs", "rows")
        return {name: self.index.total(name) for name in names}

    def require_fit(self, tokenizer: Any) -> None:
        """Raise ValueError if the rows were made by another tokenizer."""
        plan, config = self.index.plan, self.config
        made_by, whose = plan["tokenizer"], config.model if config.tokenizer is None else config.tokenizer
        same = vocabulary_fingerprint(tokenizer) == made_by["vocabulary"]
        if same:
            texts = held_out_text(self.folder)["text"][:_COMPARED]
            same = held_out_fingerprint(texts, tokenizer, plan["rows"]) == made_by["held_out_rows"]
        if not same:
            raise ValueError(
                f"corpus: the rows of {without_credentials(config.corpus)!r} were made by the tokenizer of "
                f"{made_by['model']!r} ({made_by['tokens']:,} tokens), and that of {str(whose)!r} "
                f"({len(tokenizer):,} tokens) gives other ids. Accepted: a model with that tokenizer. Name it with "
                f"--model, or prepare the text for this one: mlm-recipes prepare CORPUS --model {whose}."
            )


def held_out_fingerprint(texts: list[str], tokenizer: Any, rules: RowRules) -> str:
    """Return a hash of what a tokenizer makes of some held-out paragraphs."""
    how = {name: value for name, value in rules.items() if name != "max_length"}
    return fingerprint(rows_of(texts[:_COMPARED], tokenizer, rules["max_length"], **how))


def _refuse_unusable(config: MLMConfig) -> None:
    what = f"with {without_credentials(config.corpus)!r}, a prepared corpus."
    if config.streaming:
        raise ValueError(
            f"streaming: received true {what} Accepted: false, since its rows are mapped into memory and not read "
            "before they are needed. Leave it out."
        )
    if config.mix:
        raise ValueError(
            f"mix: received {config.mix} {what} Accepted: no value, since its rows were counted beforehand. Leave it "
            "out, or put the other text into the corpus before you prepare it."
        )
    usual = MLMConfig.__dataclass_fields__
    for name in _DECIDED:
        if (value := getattr(config, name)) != usual[name].default:
            raise ValueError(
                f"{name}: received {value!r} {what} Accepted: no value, since that was decided when it was prepared. "
                f"Leave it out, or pass it to `mlm-recipes prepare`."
            )


def _with_its_rules(config: MLMConfig, index: PreparedIndex) -> MLMConfig:
    """Return the config with the values that the rows were made by, and say which of them it did not have.

    Raises: ValueError for a value that is neither the default nor that of the rows.
    """
    rules = {**index.plan["rows"], "validation_fraction": index.plan["held_out"]["fraction"]}
    usual = MLMConfig.__dataclass_fields__
    taken: dict[str, Any] = {}
    if not POLICIES[config.masking_policy].words:
        del rules["word_segmenter"]  # the rows' words are not used
    for name, value in rules.items():
        given = getattr(config, name)
        if given == value:
            continue
        if given != usual[name].default:
            raise ValueError(
                f"{name}: received {given!r}, and {without_credentials(config.corpus)!r} was prepared with {value!r}. "
                f"Accepted: {value!r}. Pass --{name} {str(value).lower()}, or prepare the text again with --{name} "
                f"{str(given).lower()}."
            )
        taken[name] = value
    if taken:
        said = ", ".join(f"{name} {str(value).lower()}" for name, value in taken.items())
        logger.info("As the corpus was prepared: %s.", said)
    return replace(config, **taken)
