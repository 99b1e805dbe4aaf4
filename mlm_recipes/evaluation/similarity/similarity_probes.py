"""Measures how well an encoder's similarities agree with pairs and searches that people have judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...data.search_set import SearchSet
from ...data.text_cache import digests
from ...data.text_pairs import TextPairs
from ...inspection_file import InspectedPairs, InspectedSearch
from ...masking.random_keys import Floats
from ...metrics_file import (
    Measure,
    PairChanges,
    PairProbe,
    PairsAlone,
    PairScores,
    SearchAlone,
    SearchChanges,
    SearchProbe,
    SearchScores,
    WhiteningFacts,
)
from ...probes_file import Leakage
from ..probes.leakage import leaked
from .expected_interval import USUAL_SPREAD_OF_PAIRS, USUAL_SPREAD_OF_QUERIES, expected_interval
from .influence import average_precision_influence, spearman_influence
from .pair_measures import PairMeasure, average_precision, spearman
from .paired_change import mean_of, paired_change
from .search_measures import first_documents, ndcg, recall
from .shared_texts import widening
from .text_vectors import unit_length
from .whitening import Whitening

#: Whitening is fitted to at most so many texts; of more, its figures hardly change.
FITTED_TO = 2_000

#: The vectors as the encoder gives them, and whitened.
_AS_IS, _WHITENED = 0, 1


@dataclass(frozen=True)
class SimilarityState:
    """What an encoder makes of all pairs and searches, as it is and whitened; `dimensions` of the latter.

    `pairs`: the similarity of each pair, shape `(2, pairs)`. `searches`: nDCG@10 and recall@10 of each query, shape
    `(2, 2, queries)`.
    """

    pairs: list[Floats]
    searches: list[Floats]
    dimensions: int


@dataclass(frozen=True)
class SimilarityProbes:
    """Pairs and searches, and the texts that whitening is fitted to.

    Attributes:
        pairs, searches: what is measured.
        fitted_to: training texts, none of which is measured.
        leakage: for each of the pairs, then of the searches, how many of its texts are in the training text.
    """

    pairs: list[TextPairs]
    searches: list[SearchSet]
    fitted_to: list[str]
    leakage: list[Leakage]

    @classmethod
    def of(
        cls,
        pairs: Sequence[TextPairs],
        searches: Sequence[SearchSet],
        training: Sequence[str],
        seed: int = 0,
        streamed: bool = False,
    ) -> SimilarityProbes:
        """Choose at random which of the training texts whitening is fitted to, and look for those that are measured.

        If the text is `streamed`, or a prepared corpus, `training` is a part of it only, and nothing is looked for.
        """
        measured = [[*dict.fromkeys([*each.first, *each.second])] for each in pairs]
        measured += [[*dict.fromkeys([*each.queries, *each.documents])] for each in searches]
        held = np.isin(digests(training), digests(text for texts in measured for text in texts))
        order = np.random.default_rng(seed).permutation(len(training))
        fitted = [training[index] for index in order[~held[order]][:FITTED_TO].tolist()]
        if len(fitted) < 2:
            raise ValueError(
                f"probe_pairs, probe_search: {len(fitted)} training texts are not measured themselves, and whitening "
                "is fitted to them. Accepted: two or more. Add text, or leave these options out."
            )
        return cls([*pairs], [*searches], fitted, _leakage(measured, None if streamed else training))

    def measure(self, vectors: Callable[[Sequence[str]], Floats]) -> SimilarityState:
        """Measure an encoder, of which `vectors` returns the vectors of texts, shape `(texts, hidden)`."""
        whitening = Whitening.fit(vectors(self.fitted_to))
        versions: list[Callable[[Floats], Floats]] = [unit_length, lambda found: unit_length(whitening(found))]
        pairs, searches = [], []
        for each in self.pairs:
            both = vectors([*each.first, *each.second])
            first, second = both[: len(each.first)], both[len(each.first) :]
            pairs.append(np.stack([(made(first) * made(second)).sum(axis=1) for made in versions]))
        for search in self.searches:
            every = vectors([*search.queries, *search.documents])
            queries, documents = every[: len(search.queries)], every[len(search.queries) :]
            ranked = [first_documents(made(queries), made(documents), search.skipped) for made in versions]
            searches.append(
                np.stack([[ndcg(found, search.relevant), recall(found, search.relevant)] for found in ranked])
            )
        return SimilarityState(pairs, searches, whitening.kernel.shape[1])

    def pair_changes(self, before: SimilarityState, after: SimilarityState) -> list[PairProbe]:
        """Return metrics.json's `probe_pairs`."""
        found: list[PairProbe] = []
        for number, pairs in enumerate(self.pairs):
            as_is, whitened = (
                _pair_changes(pairs, before.pairs[number][version], after.pairs[number][version])
                for version in (_AS_IS, _WHITENED)
            )
            found.append(
                {
                    "name": pairs.name,
                    "kind": pairs.kind,
                    "fingerprint": pairs.fingerprint(),
                    "pairs": len(pairs.first),
                    "distinct_texts": len({*pairs.first, *pairs.second}),
                    "leakage": self.leakage[number],
                    "as_is": as_is,
                    "whitened": whitened,
                    "whitening": self._whitening(before, after),
                }
            )
        return found

    def search_changes(self, before: SimilarityState, after: SimilarityState) -> list[SearchProbe]:
        """Return metrics.json's `probe_search`."""
        found: list[SearchProbe] = []
        for number, search in enumerate(self.searches):
            as_is, whitened = (
                _search_changes(before.searches[number][version], after.searches[number][version])
                for version in (_AS_IS, _WHITENED)
            )
            found.append(
                {
                    "name": search.name,
                    "fingerprint": search.fingerprint(),
                    "queries": len(search.queries),
                    "documents": len(search.documents),
                    "relevant": sum(map(len, search.relevant)),
                    "leakage": self.leakage[len(self.pairs) + number],
                    "as_is": as_is,
                    "whitened": whitened,
                    "whitening": self._whitening(before, after),
                }
            )
        return found

    def pairs_alone(self, state: SimilarityState) -> list[PairsAlone]:
        """Return how well one encoder ranks the pairs."""
        found: list[PairsAlone] = []
        for pairs, similarities in zip(self.pairs, state.pairs, strict=True):
            as_is, whitened = (_pair_scores(pairs, similarities[version]) for version in (_AS_IS, _WHITENED))
            found.append(
                {
                    "name": pairs.name,
                    "kind": pairs.kind,
                    "pairs": len(pairs.first),
                    "as_is": as_is,
                    "whitened": whitened,
                }
            )
        return found

    def searches_alone(self, state: SimilarityState) -> list[SearchAlone]:
        """Return how well one encoder finds documents."""
        found: list[SearchAlone] = []
        for search, measures in zip(self.searches, state.searches, strict=True):
            as_is, whitened = (_search_scores(measures[version]) for version in (_AS_IS, _WHITENED))
            found.append(
                {
                    "name": search.name,
                    "queries": len(search.queries),
                    "documents": len(search.documents),
                    "as_is": as_is,
                    "whitened": whitened,
                }
            )
        return found

    def pairs_inspected(self) -> list[InspectedPairs]:
        """Return what the pairs could show of a run."""
        return [
            {
                "name": pairs.name,
                "kind": pairs.kind,
                "pairs": len(pairs.first),
                "distinct_texts": len({*pairs.first, *pairs.second}),
                "leakage": leakage,
                **expected_interval(len(pairs.first), USUAL_SPREAD_OF_PAIRS),
            }
            for pairs, leakage in zip(self.pairs, self.leakage, strict=False)
        ]

    def searches_inspected(self) -> list[InspectedSearch]:
        """Return what the searches could show of a run."""
        return [
            {
                "name": search.name,
                "queries": len(search.queries),
                "documents": len(search.documents),
                "relevant": sum(map(len, search.relevant)),
                "leakage": leakage,
                **expected_interval(len(search.queries), USUAL_SPREAD_OF_QUERIES),
            }
            for search, leakage in zip(self.searches, self.leakage[len(self.pairs) :], strict=True)
        ]

    def _whitening(self, before: SimilarityState, after: SimilarityState) -> WhiteningFacts:
        return {
            "texts": len(self.fitted_to),
            "dimensions_before": before.dimensions,
            "dimensions_after": after.dimensions,
        }


def _leakage(measured: Sequence[Sequence[str]], training: Sequence[str] | None) -> list[Leakage]:
    """Return how many of each list's texts are in the training text; it is read once."""
    if training is None:
        return [{"exact": None, "near": None} for _ in measured]
    exact, near = leaked([text for texts in measured for text in texts], training)
    ends = np.cumsum([len(texts) for texts in measured])[:-1]
    return [
        {"exact": int(one.sum()), "near": int(other.sum())}
        for one, other in zip(np.split(exact, ends), np.split(near, ends), strict=True)
    ]


def _pair_changes(pairs: TextPairs, before: Floats, after: Floats) -> PairChanges:
    changes: PairChanges = {"spearman": _pair_change(pairs, before, after, spearman, spearman_influence)}
    if pairs.kind == "match":
        how = (average_precision, average_precision_influence)
        changes["average_precision"] = _pair_change(pairs, before, after, *how)
    return changes


def _pair_change(
    pairs: TextPairs,
    before: Floats,
    after: Floats,
    measure: Callable[[Floats, Floats], PairMeasure],
    influence: Callable[[Floats, Floats], Floats],
) -> Measure:
    scores = np.array(pairs.scores)
    wider = widening(influence(scores, after) - influence(scores, before), pairs.first, pairs.second)
    return paired_change(measure(scores, before), measure(scores, after), len(scores), widening=wider)


def _search_changes(before: Floats, after: Floats) -> SearchChanges:
    gain, found = (
        paired_change(mean_of(before[measure]), mean_of(after[measure]), before.shape[1]) for measure in (0, 1)
    )
    return {"ndcg_at_10": gain, "recall_at_10": found}


def _pair_scores(pairs: TextPairs, similarities: Floats) -> PairScores:
    scores, once = np.array(pairs.scores), np.ones((1, len(similarities)))
    found: PairScores = {"spearman": float(spearman(scores, similarities)(once)[0])}
    if pairs.kind == "match":
        found["average_precision"] = float(average_precision(scores, similarities)(once)[0])
    return found


def _search_scores(measures: Floats) -> SearchScores:
    gain, found = measures.mean(axis=1).tolist()
    return {"ndcg_at_10": gain, "recall_at_10": found}
