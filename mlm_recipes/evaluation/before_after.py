"""Measures a model before and after training, and compares both: the central part of metrics.json."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

from ..masking.random_keys import Floats, Ints
from ..metrics_file import Change, Chosen, Comparison, ModelAlone, ModelScores, ModelState
from .breakdowns import Breakdown
from .measured_text import Evaluate, MeasuredText, Measurement, change, gain
from .prompts import Filled, Prompts
from .word_likelihood import MeasuredWords
from .word_pieces import WordPieces


@dataclass(frozen=True)
class Measured:
    """The texts and prompts on which a run measures a model.

    Attributes:
        held_out: the held-out text.
        general: ordinary language, if it is measured.
        prompts: sentences whose masks are filled.
        counts: how many times the training text contains each token, shape `(vocab_size,)`.
        tokenizer: the model's tokenizer.
        words: words of the held-out text whose whole loss is measured, if there are any.
    """

    held_out: MeasuredText
    general: MeasuredText | None
    prompts: Prompts
    counts: Ints
    tokenizer: Any
    words: MeasuredWords | None = None


@dataclass(frozen=True)
class State:
    """A model's results on the held-out text, ordinary language and the prompts; measuring took `seconds`."""

    held_out: Measurement
    general: Measurement | None
    prompts: list[Filled]
    seconds: float
    words: Floats | None = None

    @classmethod
    def of(cls, measured: Measured, model: Any, evaluate: Evaluate, original: bool = False) -> State:
        """Measure a model in its current state; `evaluate` is `MLMTrainer.token_results` or an equivalent function.

        With `original`, whole words are measured by the vocabulary without the words of `add_tokens`.
        """
        started = time.monotonic()
        held_out = measured.held_out.measure(evaluate)
        general = None if measured.general is None else measured.general.measure(evaluate)
        prompts = measured.prompts.fill(model, measured.tokenizer)
        words = None if measured.words is None else measured.words.measure(model, evaluate, original)
        return cls(held_out, general, prompts, time.monotonic() - started, words)

    def entry(self, measured: Measured, shown: list[tuple[int, Chosen]]) -> ModelState:
        """Return metrics.json's entry for this state, `before` or `after`, with the answers to the prompts `shown`."""
        found: ModelState = {**self.measures, "fill_mask": measured.prompts.entries(self.prompts, shown)}
        if measured.words is not None and self.words is not None:
            per_word, per_character = measured.words.per_word_and_character(self.words)
            found["loss_per_word"], found["loss_per_character"] = per_word, per_character
        return found

    @property
    def measures(self) -> ModelScores:
        """The measures on the held-out text, and under `general` those on ordinary language."""
        found = cast(ModelScores, self.held_out.summary())
        if self.general is not None:
            found["general"] = self.general.summary()
        return found

    @property
    def logged(self) -> dict[str, float]:
        """The measures of the first draw, under the names that evaluations during training use."""
        first = self.held_out.summary()["first_draw"]
        found = {
            "eval_loss": first["loss"],
            "eval_perplexity": first["perplexity"],
            "eval_accuracy": first["accuracy"],
            "eval_top5_accuracy": first["top5_accuracy"],
            "eval_masked_tokens": first["masked_tokens"],
        }
        if self.general is not None:
            found["eval_general_loss"] = self.general.summary()["first_draw"]["loss"]
        return found


def compare(measured: Measured, before: State, after: State) -> Comparison:
    """Return metrics.json's entries before, after, gain, change, bands, pieces and words."""
    shown = measured.prompts.shown(before.prompts, after.prompts)
    changed: Change = {"held_out": change(before.held_out, after.held_out)}
    if measured.words is not None and before.words is not None and after.words is not None:
        held_out = changed["held_out"]
        per_word, per_character = measured.words.changes(before.words, after.words)
        held_out["measures"]["loss_per_word"] = per_word
        held_out["measures"]["loss_per_character"] = per_character
        held_out["word_sample"] = measured.words.sample()
    if before.general is not None and after.general is not None:
        changed["general"] = change(before.general, after.general)
    breakdown = Breakdown(before.held_out.tokens, after.held_out.tokens, measured.held_out.paragraph)
    pieces = WordPieces(measured.tokenizer)
    return {
        "before": before.entry(measured, shown),
        "after": after.entry(measured, shown),
        "gain": gain(before.held_out, after.held_out),
        "change": changed,
        "bands": breakdown.by_frequency(measured.counts),
        "pieces": breakdown.by_piece(measured.held_out.rows, pieces),
        "words": breakdown.by_word(measured.held_out.rows, pieces),
    }


def uncompared(before: State, after: State) -> Comparison:
    """Return metrics.json's entries if the two states could not be compared: their measures, without prompts."""
    return {"before": {**before.measures, "fill_mask": []}, "after": {**after.measures, "fill_mask": []}}


def alone(measured: Measured, state: State) -> ModelAlone:
    """Return the figures of a model that is only measured, not trained."""
    sample = state.held_out.sample()
    found = {
        **state.entry(measured, measured.prompts.shown(None, state.prompts)),
        "draws": sample["draws"],
        "distinct_tokens": sample["distinct_tokens"],
        "pseudo_perplexity_sample": sample["pseudo_perplexity_sample"],
    }
    if measured.words is not None and state.words is not None:
        found["word_sample"] = measured.words.sample()
    return cast(ModelAlone, found)
