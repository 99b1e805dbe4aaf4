"""Mixes other texts into the rows that a run trains on, as `mix` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from datasets import Dataset

from ..data.columns import flat_column
from ..data.corpus_name import Reading, TextSource, resolve
from ..data.mixed_rows import MixedRows, mix_rows
from ..data.mixed_text import load_mixed
from ..data.rows import to_rows
from ..evaluation.word_frequencies import token_counts
from ..metrics_file import MixedText
from ..sources.names import unlike
from ..training.batches.mix_option import GENERAL
from ..training.config import MLMConfig
from .vocabulary_fit import known_tokens


def mixed_rows(
    config: MLMConfig, rows: Dataset, measured: Sequence[str], tokenizer: Any, max_length: int, vocabulary: int
) -> tuple[MixedRows, list[MixedText]]:
    """Return the rows of an epoch, and metrics.json's facts about the texts that are mixed in.

    Args:
        config: says which texts, with which share, and how they are read.
        rows: the rows of the corpus.
        measured: all paragraphs that the model is measured on; none of them is mixed in.
        tokenizer, max_length: as for `rows`.
        vocabulary: the number of the model's embeddings.

    Raises: ValueError if a text cannot be loaded, or if the vocabulary has none of its words.
    """
    shares = cast("dict[str, float]", config.mix)
    others, facts = dict[str, tuple[Dataset, float]](), list[MixedText]()
    for name, share in shares.items():
        source = _resolved(config.general_corpus if name == GENERAL else name, Reading(**config.reading()))
        text = load_mixed(source, measured, config.deduplicate)
        part = to_rows(text.rows, tokenizer, max_length, **config.rows())
        if not known_tokens(token_counts(flat_column(part, "input_ids"), vocabulary), tokenizer):
            raise ValueError(
                f"mix: none of the words of {source.name!r} is in the vocabulary of {config.model!r}. Accepted: a text "
                "that the model can read. Name a different text."
            )
        called = unlike(source.name, others)
        others[called] = part, share
        facts.append(
            {
                **source.facts(),
                "name": called,
                "fingerprint": text.facts["fingerprint"],
                "asked_share": share,
                "paragraphs": len(text.rows),
                "left_out": text.left_out,
                "share": 0.0,
                "rows": len(part),
                "rows_per_epoch": 0,
            }
        )
    mixed = mix_rows(rows, others)
    for fact, made in zip(facts, mixed.parts, strict=True):
        fact["share"], fact["rows_per_epoch"] = mixed.share(made), made.rows_per_epoch
    return mixed, facts


def _resolved(name: str, reading: Reading) -> TextSource:
    try:
        return resolve(name, reading)
    except (ValueError, OSError) as error:  # it speaks of the corpus
        raise type(error)(str(error).replace("corpus:", "mix:", 1)) from error
