"""The loss of masked-language modelling: a sum over labelled positions, divided once."""

from __future__ import annotations

from typing import Any

import torch

from ..masking.batch_layout import labelled
from .cross_entropy import cross_entropy


def masked_lm_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the cross-entropy in nats, summed over the labelled positions and divided once by their number.

    A float64 scalar (float32 on MPS, which has no float64).

    Args:
        outputs: a model's output with `logits`, shape `(batch, seq_len, vocab)`, or only at the labelled positions,
            `(1, labelled, vocab)`, as within `mlm_recipes.model.sparse_prediction.only_at`.
        labels: shape `(batch, seq_len)`, -100 where there is no loss; or only those of the labelled positions, shape
            `(1, labelled)`.
        num_items_in_batch: the number of labelled positions in the whole optimizer step, over all its micro-batches and
            processes, as Trainer counts them; by default that of `labels`.

    A batch without labels has the loss 0, not NaN. This is for Trainer's `compute_loss_func`: on its own, Trainer
    assumes that the mean loss of BERT-like heads is already normalised, and multiplies it by the number of accumulation
    steps and processes (https://github.com/huggingface/transformers/issues/47688).

    >>> from types import SimpleNamespace
    >>> outputs = SimpleNamespace(logits=torch.zeros(1, 3, 8))
    >>> round(masked_lm_loss(outputs, torch.tensor([[-100, 5, -100]])).item(), 4)  # log(8)
    2.0794
    >>> masked_lm_loss(outputs, torch.tensor([[-100, -100, -100]])).item()
    0.0
    """
    where, logits = labelled(labels), outputs.logits
    if logits.shape[:2] != labels.shape:
        logits, labels = logits.flatten(0, 1), labels[where]  # (labelled, vocab), (labelled,)
    elif labels.device.type == "cpu" and not where.numpy().all():
        logits, labels = logits[where], labels[where]
    else:  # leaving out rows without a label would wait for the device; their loss is 0
        logits, labels = logits.flatten(0, 1), labels.flatten()
    nats = cross_entropy(logits, labels)  # (labelled,), or (batch * seq_len,)
    # In double precision if available: otherwise the sum would depend on how the step is split.
    nats = nats.sum(dtype=torch.float32 if nats.device.type == "mps" else torch.float64)
    count = where.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=nats.device)
    return nats / count.clamp(min=1)
