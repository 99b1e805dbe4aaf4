"""`probe_pairs` and `probe_search`: how well the similarities of texts rank them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from ..probes_file import Leakage
from .change import Measure

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

PairKind = Literal["score", "match"]


class WhiteningFacts(TypedDict):
    """How many training texts whitening was fitted to, and the dimensions that it kept."""

    texts: int
    dimensions_before: int
    dimensions_after: int


class PairChanges(TypedDict):
    """How well similarities rank pairs, before and after; average precision if pairs match or do not."""

    spearman: Measure
    average_precision: NotRequired[Measure]


class SearchChanges(TypedDict):
    """How well similarities find documents, before and after: means over the queries."""

    ndcg_at_10: Measure
    recall_at_10: Measure


class PairProbe(TypedDict):
    """An entry of `probe_pairs`: what changed on a file of pairs, with the encoder as it is and whitened."""

    name: str
    kind: PairKind
    fingerprint: NotRequired[str]
    pairs: int
    distinct_texts: int
    leakage: Leakage
    as_is: PairChanges
    whitened: PairChanges
    whitening: WhiteningFacts


class SearchProbe(TypedDict):
    """An entry of `probe_search`: what changed on a set of queries, with the encoder as it is and whitened.

    `relevant`: the number of documents that are relevant to a query, added up.
    """

    name: str
    fingerprint: NotRequired[str]
    queries: int
    documents: int
    relevant: int
    leakage: Leakage
    as_is: SearchChanges
    whitened: SearchChanges
    whitening: WhiteningFacts


class PairScores(TypedDict):
    """How well a model's similarities rank pairs."""

    spearman: float
    average_precision: NotRequired[float]


class SearchScores(TypedDict):
    """How well a model's similarities find documents."""

    ndcg_at_10: float
    recall_at_10: float


class PairsAlone(TypedDict):
    """A file of pairs, measured without a training run."""

    name: str
    kind: PairKind
    pairs: int
    as_is: PairScores
    whitened: PairScores


class SearchAlone(TypedDict):
    """A set of queries, measured without a training run."""

    name: str
    queries: int
    documents: int
    as_is: SearchScores
    whitened: SearchScores
