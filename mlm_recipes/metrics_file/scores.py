"""`before` and `after`: what a model scores, and how it fills prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

Chosen = Literal["rose most", "fell most", "at random", "yours"]

#: A token and its probability. JSON has no tuples, so this is a list in the file and in a run's result.
TokenProbability = tuple[str, float]


class Scores(TypedDict):
    """A model's measures on masked tokens."""

    loss: float
    perplexity: float
    accuracy: float
    top5_accuracy: float
    masked_tokens: int


class TextScores(Scores):
    """A model's measures on a text, and those on the first draw of the masks only."""

    pseudo_perplexity: float
    loss_per_word: NotRequired[float]
    loss_per_character: NotRequired[float]
    first_draw: Scores


class ModelScores(TextScores):
    """A model's measures on the held-out text, and on general English if that was measured."""

    general: NotRequired[TextScores]


class FilledPrompt(TypedDict):
    """A prompt and a model's answer to it."""

    prompt: str
    answer: str | None
    chosen: Chosen
    probability: float | None
    top: list[TokenProbability]


class ModelState(ModelScores):
    """`before` or `after`."""

    fill_mask: list[FilledPrompt]
