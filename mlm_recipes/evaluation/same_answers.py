"""Compares models that should give the same logits, on the same masked tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from ..masking.batch_plan import masked_positions
from ..model.cross_entropy import cross_entropy
from ..model.onnx_export import Logits

#: How many times each row is timed; the first time is not counted.
_ROUNDS = 4


@dataclass
class Answers:
    """What a model answered at masked positions, beside a reference's answers.

    Attributes:
        tokens: the number of masked tokens.
        nats: the sum of their cross-entropies.
        correct: how many first choices were the true token.
        same: how many first choices were the reference's.
        different: how many were not, and not for rounding either.
        largest: the largest difference between two logits.
    """

    tokens: int = 0
    nats: float = 0.0
    correct: int = 0
    same: int = 0
    different: int = 0
    largest: float = 0.0

    def add(self, logits: torch.Tensor, expected: torch.Tensor, truth: torch.Tensor, rounding: float) -> None:
        """Count the masked tokens of a batch.

        Args:
            logits, expected: the model's and the reference's, shape `(masked, vocab)`.
            truth: the true ids, shape `(masked,)`.
            rounding: by how much a logit may differ for rounding alone.

        >>> answers = Answers()
        >>> answers.add(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([1]), rounding=1e-3)
        >>> answers.correct, answers.same, answers.different, answers.largest
        (1, 0, 1, 2.0)
        """
        first, wanted = logits.argmax(-1), expected.argmax(-1)
        gap = expected.gather(-1, wanted[:, None]) - expected.gather(-1, first[:, None])  # by how much it is behind
        self.tokens += len(truth)
        self.nats += float(cross_entropy(logits, truth).sum())
        self.correct += int((first == truth).sum())
        self.same += int((first == wanted).sum())
        self.different += int((gap > 2 * rounding).sum())
        self.largest = max(self.largest, float((logits - expected).abs().max()) if len(truth) else 0.0)


def compare(
    models: Mapping[str, Logits], batches: Iterable[Mapping[str, Any]], relative_rounding: float
) -> dict[str, Answers]:
    """Run all models on the same padded batches, and compare them with the first, at positions that have a label.

    `relative_rounding` is the part of the largest logit by which one may differ for rounding alone.
    """
    found = {name: Answers() for name in models}
    for batch in batches:
        positions = masked_positions(batch["labels"])
        if not len(positions):
            continue
        truth = batch["labels"].flatten()[positions]
        logits = {name: run(batch).flatten(0, 1)[positions].float() for name, run in models.items()}
        expected = next(iter(logits.values()))
        rounding = relative_rounding * float(expected.abs().max())
        for name, answers in found.items():
            answers.add(logits[name], expected, truth, rounding)
    return found


def milliseconds(models: Mapping[str, Logits], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median time of each model for one row at a time, in milliseconds.

    The models take turns, so that whatever else the machine does slows all of them down.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for row in rows:
        for again in range(_ROUNDS):
            for name, run in models.items():
                started = time.perf_counter()
                run(row)
                if again:
                    times[name].append(1000 * (time.perf_counter() - started))
    return {name: median(each) for name, each in times.items()}
