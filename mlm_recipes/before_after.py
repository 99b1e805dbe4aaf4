"""Measure a model before training and after it, and say what changed: the middle of metrics.json."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .breakdowns import Breakdown
from .measured_text import Evaluate, Measurement, change, gain
from .prepare import Run
from .prompts import Filled
from .word_pieces import WordPieces


@dataclass(frozen=True)
class State:
    """What one model made of all that a run measures: held-out text, ordinary language, prompts; in `seconds`."""

    held_out: Measurement
    general: Measurement | None
    prompts: list[Filled]
    seconds: float

    @classmethod
    def of(cls, run: Run, evaluate: Evaluate) -> State:
        """Measure the run's model as it is now; `evaluate` is `MLMTrainer.token_results` or does what that does."""
        started = time.monotonic()
        held_out = run.held_out.measure(evaluate)
        general = None if run.general is None else run.general.measure(evaluate)
        prompts = run.prompts.fill(run.model, run.tokenizer)
        return cls(held_out, general, prompts, time.monotonic() - started)

    def entry(self, run: Run, shown: list[tuple[int, str]]) -> dict[str, Any]:
        """Return what metrics.json has of it under `before` or `after`, with the prompts that are shown."""
        return self.measures | {"fill_mask": run.prompts.entries(self.prompts, shown)}

    @property
    def measures(self) -> dict[str, Any]:
        """The measures of the held-out text, and under `general` those of ordinary language."""
        general = {} if self.general is None else {"general": self.general.summary()}
        return self.held_out.summary() | general

    @property
    def logged(self) -> dict[str, float]:
        """The measures of the first draw, under the names of those that are taken while a model trains."""
        found = {f"eval_{name}": value for name, value in self.held_out.summary()["first_draw"].items()}
        if self.general is not None:
            found["eval_general_loss"] = self.general.summary()["first_draw"]["loss"]
        return found


def compare(run: Run, before: State, after: State) -> dict[str, Any]:
    """Return what metrics.json has under before, after, gain, change, bands, pieces and words."""
    shown = run.prompts.shown(before.prompts, after.prompts)
    found = {
        "before": before.entry(run, shown),
        "after": after.entry(run, shown),
        "gain": gain(before.held_out, after.held_out),
        "change": {"held_out": change(before.held_out, after.held_out)},
    }
    if before.general is not None and after.general is not None:
        found["change"]["general"] = change(before.general, after.general)
    breakdown = Breakdown(before.held_out.tokens, after.held_out.tokens, run.held_out.paragraph)
    pieces = WordPieces(run.tokenizer)
    return found | {
        "bands": breakdown.by_frequency(run.counts),
        "pieces": breakdown.by_piece(run.held_out.rows, pieces),
        "words": breakdown.by_word(run.held_out.rows, pieces),
    }


def uncompared(before: State, after: State) -> dict[str, Any]:
    """Return what metrics.json has where the two could not be compared: what was measured, and no prompts."""
    return {when: state.measures | {"fill_mask": []} for when, state in (("before", before), ("after", after))}


def alone(run: Run, state: State) -> dict[str, Any]:
    """Return what metrics has under `evaluation`, where one model is measured and nothing is trained."""
    sample = state.held_out.sample()
    kept = ("draws", "distinct_tokens", "pseudo_perplexity_sample")
    return (
        {
            "model": run.config.model,
            "random_weights": run.random_weights,
            "head_initialised": run.head_initialised,
        }
        | state.entry(run, run.prompts.shown(None, state.prompts))
        | {name: sample[name] for name in kept}
    )
