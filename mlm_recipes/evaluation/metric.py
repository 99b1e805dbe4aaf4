"""`MaskedLM`: loss, accuracy and perplexity over masked tokens."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np


class MaskedLM(evaluate.Metric):
    """Loss, accuracy and perplexity over masked tokens, from one row of sums per example.

    Each row contains `nats` (the cross-entropy summed over the example's masked tokens), `correct` (how many of them
    were the model's first choice) and `masked_tokens`. All rows are summed before anything is divided, since a mean of
    batch means would depend on the batch size. The metric needs no download.

    >>> metric = MaskedLM(keep_in_memory=True)
    >>> metric.compute(nats=[2.0, 4.0], correct=[1, 0], masked_tokens=[1, 3])
    {'loss': 1.5, 'accuracy': 0.25, 'perplexity': 4.4816890703380645, 'masked_tokens': 4}
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Masked-language-model loss (nats), top-1 accuracy and perplexity.",
            citation="Devlin et al. 2019, https://aclanthology.org/N19-1423",
            inputs_description="One row of sums per example.",
            features=datasets.Features(
                {
                    "nats": datasets.Value("float64"),
                    "correct": datasets.Value("int64"),
                    "masked_tokens": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, nats: Any, correct: Any, masked_tokens: Any) -> dict[str, float]:
        count = int(np.sum(masked_tokens))
        if count == 0:
            raise ValueError(
                "evaluation: none of the tokens is masked, so there is nothing to measure. Accepted: rows with at "
                "least one token that is neither special nor unknown to the vocabulary. Check that the tokenizer is "
                "made for this text."
            )
        loss = float(np.sum(nats)) / count
        return {
            "loss": loss,
            "accuracy": int(np.sum(correct)) / count,
            "perplexity": math.exp(min(loss, 700.0)),  # beyond that a float overflows
            "masked_tokens": count,
        }


def compute(sums: Any) -> dict[str, float]:
    """Return the metrics of rows of sums, shape `(examples, 3)`: nats, correct, masked tokens."""
    nats, correct, masked_tokens = sums.T
    return MaskedLM(keep_in_memory=True).compute(
        nats=nats, correct=correct.astype(np.int64), masked_tokens=masked_tokens.astype(np.int64)
    )
