"""`MaskedLM`: loss, accuracy and perplexity over masked tokens, as a metric of `evaluate`.

`evaluate.load` takes this file's path. It copies the file, so nothing is imported here by a relative name, and only one
name by each line.
"""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np

from mlm_recipes.masking.batch_layout import IGNORE_INDEX


class MaskedLM(evaluate.Metric):
    """Loss (nats), accuracy and perplexity over masked tokens.

    Args of `compute` and `add_batch`, all of one shape, `(tokens,)` or `(rows, tokens)`; rows may differ in length:
        references: the true ids, with -100 at each token that is not measured.
        predictions: the predicted ids, which give the accuracy alone; or logits, with a dimension more.

    All tokens are summed before anything is divided, since a mean of batch means would depend on the batch size.

    Raises: ValueError if no token is measured, for shapes that do not fit, and for predicted ids that are not integers.

    >>> metric = MaskedLM(keep_in_memory=True)
    >>> metric.compute(predictions=[[7, 8, 9], [7, 5]], references=[[-100, 8, 6], [7, -100]])
    {'accuracy': 0.6666666666666666, 'masked_tokens': 3}
    >>> metric.compute(predictions=[[0.0, 0.0], [3.0, 4.0]], references=[1, -100])
    {'accuracy': 0.0, 'masked_tokens': 1, 'loss': 0.6931471805599453, 'perplexity': 2.0}
    """

    def _info(self) -> evaluate.MetricInfo:
        ids, scores, exact = datasets.Value("int64"), datasets.Value("float32"), datasets.Value("float64")
        lists = datasets.Sequence
        # Only the nesting decides which of these it is. Ids are read as float64, so that 0.7 does not become 0.
        shapes = [(exact, ids), (lists(exact), lists(ids)), (lists(scores), ids), (lists(lists(scores)), lists(ids))]
        return evaluate.MetricInfo(
            description="Masked-language-model loss (nats), top-1 accuracy and perplexity.",
            citation="Devlin et al. 2019, https://aclanthology.org/N19-1423",
            inputs_description="predictions: ids or logits; references: ids, -100 where a token is not measured.",
            features=[datasets.Features({"predictions": ours, "references": true}) for ours, true in shapes],
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        in_rows = np.ndim(references[0]) > 0
        if in_rows and [len(row) for row in predictions] != [len(row) for row in references]:
            raise ValueError(
                "predictions: received rows of other lengths than references. Accepted: one prediction for each "
                "reference. Cut both to the same tokens."
            )
        join = np.concatenate if in_rows else np.stack
        labels, found = (join([np.asarray(each) for each in column]) for column in (references, predictions))
        measured = labels != IGNORE_INDEX
        labels, found = labels[measured], found[measured]
        if found.ndim == 1:
            if (found != found.round()).any():
                raise ValueError(
                    "predictions: received numbers that are not integers, of the same shape as references. Accepted: "
                    "predicted ids, or logits with a dimension more. Pass logits.argmax(-1), or the logits."
                )
            return _measures(None, int((found == labels).sum()), len(labels))
        scores = found.astype(np.float64)
        scores -= scores.max(-1, keepdims=True)
        nats = np.log(np.exp(scores).sum(-1)) - np.take_along_axis(scores, labels[:, None], -1)[:, 0]
        return _measures(float(nats.sum()), int((scores.argmax(-1) == labels).sum()), len(labels))


def _measures(nats: float | None, correct: int, count: int) -> dict[str, float]:
    if count == 0:
        raise ValueError(
            "evaluation: none of the tokens is masked, so there is nothing to measure. Accepted: rows with at least "
            "one token that is neither special nor unknown to the vocabulary. Check that the tokenizer is made for "
            "this text."
        )
    found: dict[str, float] = {"accuracy": correct / count, "masked_tokens": count}
    if nats is None:
        return found
    loss = nats / count
    return found | {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}  # beyond that a float overflows


def compute(sums: Any) -> dict[str, float]:
    """Return the measures of rows of sums, shape `(examples, 3)`: nats, correct first choices, masked tokens.

    >>> compute(np.array([[2.0, 1, 1], [4.0, 0, 3]]))
    {'loss': 1.5, 'accuracy': 0.25, 'perplexity': 4.4816890703380645, 'masked_tokens': 4}
    """
    nats, correct, masked_tokens = (float(np.sum(np.ascontiguousarray(column))) for column in sums.T)
    found = _measures(nats, int(correct), int(masked_tokens))
    return {name: found[name] for name in ("loss", "accuracy", "perplexity", "masked_tokens")}
