"""The caller's `compute_metrics`, which gets predictions and labels at masked positions instead of all logits."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ...evaluation.predictions import Predicted, Predictions

logger = logging.getLogger(__name__)


def check_user_metrics(args: Any, compute: Any, preprocess: Any) -> None:
    """Raise ValueError for options that `compute_metrics` cannot be given here; say what it is given."""
    for name, given in (("compute_metrics", compute), ("preprocess_logits_for_metrics", preprocess)):
        if given is not None and not callable(given):
            raise ValueError(f"{name}: received {type(given).__name__}. Accepted: a function, or None. Pass one.")
    other = set(args.include_for_metrics) - {"loss"}
    if other:
        raise ValueError(
            f"include_for_metrics: received {', '.join(sorted(other))}. Accepted: loss, each masked token's own; the "
            "inputs are the mask token wherever there is a prediction. Leave it out."
        )
    if compute is None:
        if preprocess is not None:
            logger.warning("preprocess_logits_for_metrics is only used by predict(), as there is no compute_metrics.")
        return
    if args.prediction_loss_only:
        raise ValueError(
            "prediction_loss_only: received True with compute_metrics. Accepted: False, since it would never be "
            "called. Leave one of them out."
        )
    if not args.eval_do_concat_batches:
        raise ValueError(
            "eval_do_concat_batches: received False with compute_metrics. Accepted: True, which gives it one array of "
            "all masked positions, or batch_eval_metrics, which gives it each batch. Leave it out."
        )
    if args.batch_eval_metrics and "compute_result" not in inspect.signature(compute).parameters:
        raise ValueError(
            "compute_metrics: received a function without the argument compute_result, with batch_eval_metrics. "
            "Accepted: one that takes compute_metrics(prediction, compute_result), which is true for the last batch. "
            "Add it, or leave batch_eval_metrics out."
        )
    if preprocess is None:
        logger.warning(
            "compute_metrics gets the ids of the likeliest tokens and of the true ones, at masked positions only, each "
            "of shape (masked,); pass preprocess_logits_for_metrics to get something else of the logits."
        )


class UserMetrics:
    """What `compute_metrics` makes of one evaluation.

    Args:
        args: an MLMConfig.
        compute: the function, or None: then predictions are only collected.
        preprocess: what is kept of the logits; see `Predictions`.
        accelerator: gathers from all processes.
        keeps: keep the predictions of all batches, also with `batch_eval_metrics`.
    """

    def __init__(self, args: Any, compute: Any, preprocess: Any, accelerator: Any, keeps: bool) -> None:
        self._compute: Callable[..., Any] | None = compute
        self._last: Predicted | None = None
        self._by_batch = bool(args.batch_eval_metrics and compute is not None)
        self.predictions = Predictions(
            preprocess,
            accelerator.gather_for_metrics,
            lambda rows, fill: accelerator.pad_across_processes(rows, dim=1, pad_index=fill),
            nats="loss" in args.include_for_metrics,
            each=self._next if self._by_batch else None,
            keeps=keeps or not self._by_batch,
        )

    def _next(self, batch: Predicted) -> None:
        # A batch is passed on when the next one is there: only the last one asks for the result.
        if self._last is not None:
            self._call(self._last, compute_result=False)
        self._last = batch

    def result(self, kept: Predicted) -> dict[str, Any]:
        """Return the measures, as plain numbers where they are numbers; `kept` is what `predictions` has kept.

        Raises: ValueError if the function returns no dict.
        """
        if self._compute is None:
            return {}
        if self._by_batch:
            found = {} if self._last is None else self._call(self._last, compute_result=True)
        else:
            found = self._call(kept)
        if not isinstance(found, Mapping):
            raise ValueError(
                f"compute_metrics: returned {type(found).__name__}. Accepted: a dict of names and numbers. Return "
                '{"name": number}.'
            )
        return {name: _plain(value) for name, value in found.items()}

    def _call(self, found: Predicted, **asked: bool) -> Any:
        assert self._compute is not None
        return self._compute(
            EvalPrediction(predictions=found.predictions, label_ids=found.labels, losses=found.nats), **asked
        )


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's, which JSON can hold; lists and dicts of them too.

    >>> _plain({"f1": np.float64(0.5), "each": [np.int64(1)]})
    {'f1': 0.5, 'each': [1]}
    """
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    return value
