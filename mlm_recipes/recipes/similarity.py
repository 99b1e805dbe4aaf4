"""Measures a run's `probe_pairs` and `probe_search` before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..data.search_set import SearchSet, read_search_set
from ..data.streams import TextStream
from ..data.text_pairs import TextPairs, read_pairs
from ..evaluation.similarity.similarity_probes import FITTED_TO, SimilarityProbes, SimilarityState
from ..evaluation.similarity.text_vectors import text_vectors
from ..inspection_file import InspectionFacts
from ..masking.random_keys import Floats
from ..metrics_file import Comparison, ModelAlone
from ..sources.names import unlike
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.trainer import MLMTrainer
from .prepare import Run

P = TypeVar("P", TextPairs, SearchSet)


@dataclass(frozen=True)
class ReadProbes:
    """The pairs and searches of a config, read before anything else is done."""

    pairs: list[TextPairs]
    searches: list[SearchSet]

    @classmethod
    def of(cls, config: MLMConfig) -> ReadProbes:
        """Read the files that a config names.

        Raises: ValueError as `read_pairs` and `read_search_set`.
        """
        how: dict[str, Any] = {"encoding": config.encoding, "encoding_errors": config.encoding_errors}
        return cls(
            _told_apart([read_pairs(path, **how) for path in config.probe_pairs or []]),
            _told_apart([read_search_set(path, **how) for path in config.probe_search or []]),
        )

    def add_inspected(self, training: Sequence[str], seed: int, facts: InspectionFacts) -> None:
        """Add to an inspection what these could show of a run; `training` are the paragraphs that it would train on."""
        if not self.pairs and not self.searches:
            return
        probes = SimilarityProbes.of(self.pairs, self.searches, training[:], seed)
        if self.pairs:
            facts["probe_pairs"] = probes.pairs_inspected()
        if self.searches:
            facts["probe_search"] = probes.searches_inspected()


def _told_apart(read: list[P]) -> list[P]:
    """Return what was read, with a name each that no other has: files in two folders may have the same."""
    found: dict[str, P] = {}
    for each in read:
        name = unlike(each.name, found)
        found[name] = replace(each, name=name)
    return list(found.values())


def _training_texts(run: Run) -> tuple[Sequence[str], bool]:
    """Return training texts, and whether they are all that is trained on."""
    rows: Any = run.train_rows
    if isinstance(rows, TextStream):
        return rows.first(), False
    if "train" in run.corpus:
        return run.corpus["train"]["text"][:], True
    # A prepared corpus has no texts, but the tokens of all: those of some rows, spread over it, as they are spelled.
    places = np.linspace(0, len(rows) - 1, min(len(rows), FITTED_TO), dtype=int)
    ids = [rows[place]["input_ids"] for place in places.tolist()]
    spelled = run.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text for text in spelled if text.strip()], False


def _probes_of(read: ReadProbes, run: Run) -> SimilarityProbes:
    training, whole = _training_texts(run)
    return SimilarityProbes.of(read.pairs, read.searches, training, run.config.evaluation_seed, not whole)


class Similarity:
    """The pairs and searches of a run; without any, it measures nothing. All processes call each method."""

    def __init__(self, read: ReadProbes, run: Run) -> None:
        self.run = run
        self.probes: SimilarityProbes | None = None
        self.states: list[SimilarityState] = []
        if read.pairs or read.searches:
            self.probes = from_main(lambda: _probes_of(read, run))

    def measure(self, trainer: MLMTrainer, original: bool = False) -> None:
        """Measure the encoder as it is now: before training, and after it.

        With `original`, before training: by the vocabulary without the words of `add_tokens`, and with vectors that are
        kept on disk.
        """
        if self.probes is None:
            return
        tokenizer = self.run.original_tokenizer if original else self.run.tokenizer

        def vectors(texts: Sequence[str]) -> Floats:
            features = partial(trainer.text_features, cached=original)
            return text_vectors(features, tokenizer, texts, self.run.max_length)

        self.states.append(self.probes.measure(vectors))

    def add_to(self, compared: Comparison) -> None:
        """Add what changed between the two measurements to metrics.json's entries."""
        if self.probes is None:
            return
        if self.probes.pairs:
            compared["probe_pairs"] = self.probes.pair_changes(*self.states)
        if self.probes.searches:
            compared["probe_search"] = self.probes.search_changes(*self.states)

    def add_alone(self, found: ModelAlone) -> None:
        """Add the figures of the only measurement."""
        if self.probes is None:
            return
        (state,) = self.states
        if self.probes.pairs:
            found["probe_pairs"] = self.probes.pairs_alone(state)
        if self.probes.searches:
            found["probe_search"] = self.probes.searches_alone(state)


def refuse_similarity(config: MLMConfig, verb: str) -> None:
    """Raise ValueError if a verb that measures no pairs and searches is asked to."""
    for name in ("probe_pairs", "probe_search"):
        if names := getattr(config, name):
            raise ValueError(
                f"{name}: received {' '.join(names)}. Accepted here: nothing, since `{verb}` "
                "does not measure it. Leave it out, or use `mlm-recipes train`."
            )
