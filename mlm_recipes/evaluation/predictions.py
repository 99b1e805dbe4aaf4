"""`Predictions`: what a model predicts at masked positions, kept without the logits, which fit into no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from ..masking.batch_layout import IGNORE_INDEX, labelled, rows_by_example

#: What a caller makes of logits and labels: a tensor with an entry for each position, or several of them.
Preprocess = Callable[[torch.Tensor, torch.Tensor], Any]


class Predicted(NamedTuple):
    """What was predicted, in the order of the text: arrays, or tensors of a single batch, of shape `(masked, ...)`.

    `predictions` is a tuple if `preprocess` returned several tensors. `nats` is the cross-entropy, if it was wanted.
    """

    predictions: Any
    labels: Any
    nats: Any


class TokenIds(np.ndarray):
    """Ids of predicted tokens, shape `(masked,)`; they look like scores to code that was written for logits.

    >>> np.array([7, 9]).view(TokenIds).argmax(-1)
    Traceback (most recent call last):
    ...
    ValueError: compute_metrics: argmax of the predictions, which are the ids of the likeliest tokens already, not \
logits. Accepted: the ids as they are. Leave argmax out, or pass preprocess_logits_for_metrics, which gets the logits.
    """

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        """Raise ValueError: of all masked positions, this would be the index of the largest id."""
        raise ValueError(
            "compute_metrics: argmax of the predictions, which are the ids of the likeliest tokens already, not "
            "logits. Accepted: the ids as they are. Leave argmax out, or pass preprocess_logits_for_metrics, which "
            "gets the logits."
        )


class Predictions:
    """The predictions of an evaluation, gathered from all processes batch by batch.

    Args:
        preprocess: gets the logits of a few masked positions, shape `(1, some, vocab)`, and their true ids,
            `(1, some)`, and returns a tensor of shape `(1, some, ...)` or a tuple of these; by default the ids of the
            likeliest tokens.
        gather: joins the rows of all processes and drops repeated examples, `(examples, ...)`.
        pad: makes the second dimension as long in all processes, filling up with the given value.
        nats: keep each masked token's cross-entropy too.
        each: called with each batch.
        keeps: keep all batches, for `joined`.
    """

    def __init__(
        self,
        preprocess: Preprocess | None,
        gather: Callable[[torch.Tensor], torch.Tensor],
        pad: Callable[[torch.Tensor, int], torch.Tensor],
        nats: bool = False,
        each: Callable[[Predicted], None] | None = None,
        keeps: bool = True,
    ) -> None:
        self._preprocess, self._gather, self._pad = preprocess, gather, pad
        self._nats, self._each, self._keeps = nats, each, keeps
        self._parts: list[tuple[torch.Tensor, ...]] = []
        self._several = False
        self._kept: list[Predicted] = []

    def read(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Note what is predicted at a few masked positions: logits `(some, vocab)`, labels `(some,)`."""
        if self._preprocess is None:
            self._parts.append((logits.argmax(-1),))
            return
        made = self._preprocess(logits[None], labels[None])
        self._several = isinstance(made, tuple | list)
        self._parts.append(tuple(_of_positions(each, len(labels)) for each in (made if self._several else [made])))

    def end_batch(self, batch: dict[str, Any], nats: torch.Tensor) -> None:
        """Join what was noted of a batch, in all processes."""
        columns = [torch.cat(parts) for parts in zip(*self._parts, strict=True)]
        self._parts = []
        labels = self._of_all(batch, batch["labels"][labelled(batch["labels"])], IGNORE_INDEX)
        masked = labelled(labels)
        found = tuple(self._of_all(batch, column)[masked].cpu() for column in columns)
        own_nats = self._of_all(batch, nats)[masked].cpu() if self._nats else None
        predicted = Predicted(found if self._several else found[0], labels[masked].cpu(), own_nats)
        if self._each is not None:
            self._each(predicted)
        if self._keeps:
            self._kept.append(predicted)

    def joined(self) -> Predicted:
        """Return what was kept as arrays; without `preprocess`, the predictions are `TokenIds`."""
        kept = self._kept
        if not kept:
            nothing = np.empty(0, dtype=np.int64)
            return Predicted(nothing.view(TokenIds), nothing, nothing if self._nats else None)
        if self._several:
            predictions: Any = tuple(_array(list(column)) for column in zip(*(each[0] for each in kept), strict=True))
        else:
            predictions = _array([each.predictions for each in kept])
            predictions = predictions.view(TokenIds) if self._preprocess is None else predictions
        nats = _array([each.nats for each in kept]) if self._nats else None
        return Predicted(predictions, _array([each.labels for each in kept]), nats)

    def _of_all(self, batch: dict[str, Any], column: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """Return the values of all processes, one row per example."""
        return self._gather(self._pad(rows_by_example(batch, column, fill), fill))


def _of_positions(made: Any, positions: int) -> torch.Tensor:
    if not isinstance(made, torch.Tensor) or made.shape[:2] != (1, positions):
        what = f"shape {tuple(made.shape)}" if isinstance(made, torch.Tensor) else type(made).__name__
        raise ValueError(
            f"preprocess_logits_for_metrics: returned {what} for logits at {positions} masked positions. Accepted: a "
            f"tensor of shape (1, {positions}, ...), or a tuple of them. Keep the first two dimensions, as "
            "logits.argmax(-1) does."
        )
    return made[0]


def _array(parts: list[torch.Tensor]) -> Any:
    whole = torch.cat(parts)
    return (whole.float() if whole.dtype == torch.bfloat16 else whole).numpy()
