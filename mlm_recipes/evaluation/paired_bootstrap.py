"""Compares two measurements of the same masked tokens, with intervals from a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..masking.random_keys import Floats
from ..metrics_file import Measure, MeasureName, Scores, Verdict
from .verdict import verdict_of

#: The columns of a paragraph's sums: nats, correct first choices, tokens among the first five choices, masked tokens.
NATS, CORRECT, IN_TOP5, MASKED = range(4)

#: With fewer paragraphs, the resamples are too similar for an interval.
FEWEST = 10

#: Computes each measure from sums of shape `(..., 4)`. Above 700 nats, a float would overflow.
MEASURES: dict[MeasureName, Callable[[Floats], Floats]] = {
    "loss": lambda sums: sums[..., NATS] / sums[..., MASKED],
    "perplexity": lambda sums: np.exp(np.minimum(sums[..., NATS] / sums[..., MASKED], 700.0)),
    "accuracy": lambda sums: sums[..., CORRECT] / sums[..., MASKED],
    "top5_accuracy": lambda sums: sums[..., IN_TOP5] / sums[..., MASKED],
}

_LOWER_IS_BETTER: set[MeasureName] = {"loss", "perplexity"}


def measures(sums: Floats) -> Scores:
    """Return loss, perplexity, accuracy, top5_accuracy and masked_tokens of paragraphs' sums, shape `(paragraphs, 4)`.

    Everything is summed before anything is divided.

    >>> found = measures(np.array([[2.0, 1, 1, 2], [4.0, 0, 1, 2]]))
    >>> found["loss"], found["accuracy"], found["top5_accuracy"], found["masked_tokens"]
    (1.5, 0.25, 0.5, 4)
    """
    total = sums.sum(axis=0)
    return {
        "loss": float(MEASURES["loss"](total)),
        "perplexity": float(MEASURES["perplexity"](total)),
        "accuracy": float(MEASURES["accuracy"](total)),
        "top5_accuracy": float(MEASURES["top5_accuracy"](total)),
        "masked_tokens": int(total[MASKED]),
    }


def paired_changes(
    before: Floats,
    after: Floats,
    names: Sequence[MeasureName] = tuple(MEASURES),
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[MeasureName, Measure]:
    """Return by how much each measure changed, with a 95% bootstrap interval over paragraphs.

    Whole paragraphs are drawn with replacement, before and after together, since tokens of the same paragraph are not
    independent of each other; a measure is a ratio of sums over the drawn paragraphs (percentile bootstrap; Efron &
    Tibshirani 1993, chapter 13). All measures use the same resamples.

    Args:
        before, after: sums of the same paragraphs with the same masks, shape `(paragraphs, 4)`: nats, correct first
            choices, tokens among the first five choices, masked tokens.
        names: which of `MEASURES` to return.
        resamples: the number of resamples.
        seed: the seed of the resamples.

    Returns for each name `before`, `after`, `change` (after minus before), `low`, `high` and a `verdict`, which
    docs/metrics.md explains. Paragraphs without a masked token do not count; with fewer than ten paragraphs there is no
    interval, and `low` and `high` are None.

    >>> before = np.array([[4.0, 0, 0, 2], [6.0, 0, 0, 2]] * 5)
    >>> after = np.array([[2.0, 1, 1, 2], [2.0, 1, 1, 2]] * 5)
    >>> paired_changes(before, after, ["accuracy"])["accuracy"]
    {'before': 0.0, 'after': 0.5, 'change': 0.5, 'low': 0.5, 'high': 0.5, 'verdict': 'better'}
    """
    assert np.array_equal(before[:, MASKED], after[:, MASKED]), "not the same masked tokens"
    measured = before[:, MASKED] > 0
    before, after = before[measured], after[measured]
    drawn = resampled(np.concatenate([before, after], axis=1), resamples, seed) if len(before) >= FEWEST else None
    return {name: _change(name, before.sum(axis=0), after.sum(axis=0), drawn) for name in names}


def interval_of_gain(before: Floats, after: Floats, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the ends of the interval of the loss's decrease, for any number of paragraphs.

    The arguments and the resamples are the same as in `paired_changes`.
    """
    measured = before[:, MASKED] > 0
    drawn = resampled(np.concatenate([before[measured], after[measured]], axis=1), resamples, seed)
    low, high = _interval("loss", drawn)
    return -high, -low


def _change(name: MeasureName, before: Floats, after: Floats, drawn: Floats | None) -> Measure:
    old, new = float(MEASURES[name](before)), float(MEASURES[name](after))
    low, high = (None, None) if drawn is None else _interval(name, drawn)
    return {
        "before": old,
        "after": new,
        "change": new - old,
        "low": low,
        "high": high,
        "verdict": _verdict(low, high, lower_is_better=name in _LOWER_IS_BETTER),
    }


def _verdict(low: float | None, high: float | None, lower_is_better: bool) -> Verdict:
    if low is None or high is None:
        return "too few paragraphs"
    return verdict_of(-high, -low) if lower_is_better else verdict_of(low, high)


def resampled(sums: Floats, resamples: int, seed: int) -> Floats:
    """Return the sums over paragraphs drawn with replacement, shape `(resamples, columns)`."""
    generator, paragraphs, parts = np.random.default_rng(seed), len(sums), []
    for first in range(
        0, resamples, 100
    ):  # a hundred at a time, so that a large held-out text does not fill the memory
        size = min(100, resamples - first)
        drawn = generator.integers(paragraphs, size=(size, paragraphs)) + paragraphs * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * paragraphs).reshape(size, paragraphs)
        parts.append(times @ sums)  # (size, columns): how often each was drawn, times its sums
    return np.concatenate(parts)


def _interval(name: MeasureName, drawn: Floats) -> tuple[float, float]:
    changes = MEASURES[name](drawn[:, 4:]) - MEASURES[name](drawn[:, :4])
    low, high = np.quantile(changes, [0.025, 0.975]).tolist()
    return low, high
