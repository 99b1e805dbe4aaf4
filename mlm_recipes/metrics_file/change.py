"""`gain`, `change`, `bands`, `pieces` and `words`: what changed, and on how much text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

Unit = Literal["paragraphs", "rows"]
Verdict = Literal["better", "worse", "no measurable change", "too few paragraphs"]
MeasureName = Literal[
    "loss", "perplexity", "accuracy", "top5_accuracy", "pseudo_perplexity", "loss_per_word", "loss_per_character"
]


class PseudoPerplexitySample(TypedDict):
    """The tokens that were masked one at a time."""

    tokens: int
    paragraphs: int
    share: float


class WordSample(TypedDict):
    """The words whose loss is measured, and the tokens that they are before and after training."""

    words: int
    characters: int
    paragraphs: int
    share: float
    tokens_before: int
    tokens_after: int
    fingerprint: str


class Sample(TypedDict):
    """How much of a text a model was measured on."""

    text: str
    draws: int
    masked_tokens: int
    distinct_tokens: int
    paragraphs: int
    unit: Unit
    fingerprint: str
    repeated_rows: NotRequired[int]
    pseudo_perplexity_sample: PseudoPerplexitySample


class Measure(TypedDict):
    """A measure before and after, and its change with a 95% interval."""

    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    verdict: Verdict


class GroupMeasures(TypedDict):
    """The measures of a band or a piece."""

    loss: Measure
    accuracy: Measure
    top5_accuracy: Measure


class TextMeasures(GroupMeasures):
    """The measures of a text."""

    perplexity: Measure
    pseudo_perplexity: Measure
    loss_per_word: NotRequired[Measure]
    loss_per_character: NotRequired[Measure]


class TextChange(Sample):
    """What changed on a text."""

    word_sample: NotRequired[WordSample]
    measures: TextMeasures


class Change(TypedDict):
    """`change`."""

    held_out: TextChange
    general: NotRequired[TextChange]


class Gain(TypedDict):
    """`gain`: by how much the loss fell, on how many paragraphs or rows."""

    loss: float
    low: float
    high: float
    paragraphs: NotRequired[int]
    rows: NotRequired[int]


class GroupChange(TypedDict):
    """What changed on a group of tokens."""

    masked_tokens: int
    distinct_tokens: int
    paragraphs: int
    measures: GroupMeasures


class Piece(GroupChange):
    """An entry of `pieces`."""

    name: str


# `from` is a keyword, which cannot name an attribute.
_Range = TypedDict("_Range", {"from": int, "to": "int | None"})


class Band(Piece, _Range):
    """An entry of `bands`: tokens that the training text has between `from` and `to` times."""


class WordChange(Measure):
    """What changed on a word: its loss, in nats per masked token."""

    masked_tokens: int
    paragraphs: int


class Word(WordChange):
    """An entry of `words.gained` or `words.lost`."""

    word: str
    places: int


class Words(TypedDict):
    """`words`."""

    at_least: int
    compared: int
    gained: list[Word]
    lost: list[Word]
