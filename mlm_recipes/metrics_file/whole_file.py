"""The contents of metrics.json, and what `mlm-recipes evaluate` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict, final

from ..probes_file import ProbeAlone, ProbeChange
from .change import Band, Change, Gain, Piece, PseudoPerplexitySample, Words, WordSample
from .corpus import CorpusFacts
from .scores import ModelState
from .similarity import PairProbe, PairsAlone, SearchAlone, SearchProbe
from .train import Train

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

#: The version of these types. A reader of version N reads files of version 0 (without a version) to N.
SCHEMA_VERSION: Literal[1] = 1


class Comparison(TypedDict):
    """Two measurements of a model and their comparison; only `before` and `after` if the comparison failed."""

    before: ModelState
    after: ModelState
    gain: NotRequired[Gain]
    change: NotRequired[Change]
    bands: NotRequired[list[Band]]
    pieces: NotRequired[list[Piece]]
    words: NotRequired[Words]
    probes: NotRequired[list[ProbeChange]]
    probe_pairs: NotRequired[list[PairProbe]]
    probe_search: NotRequired[list[SearchProbe]]


class Failure(TypedDict):
    """An entry of `not_made`."""

    what: str
    why: str


@final
class Metrics(Comparison):
    """The contents of metrics.json."""

    schema_version: Literal[1]
    corpus: CorpusFacts
    train: Train
    versions: dict[str, str]
    not_made: NotRequired[list[Failure]]


class EvaluatedModel(TypedDict):
    """A model that was measured."""

    model: str
    tokenizer: NotRequired[str | None]
    random_weights: bool
    head_initialised: list[str]


class ModelAlone(ModelState):
    """How a model scores on the text, without a training run."""

    draws: int
    distinct_tokens: int
    pseudo_perplexity_sample: PseudoPerplexitySample
    word_sample: NotRequired[WordSample]
    probes: NotRequired[list[ProbeAlone]]
    probe_pairs: NotRequired[list[PairsAlone]]
    probe_search: NotRequired[list[SearchAlone]]


class EvaluationFacts(EvaluatedModel, ModelAlone):
    """`evaluation`."""


@final
class EvaluationMetrics(TypedDict):
    """The metrics of `mlm-recipes evaluate`, which writes no file."""

    corpus: CorpusFacts
    evaluation: EvaluationFacts
    versions: dict[str, str]
