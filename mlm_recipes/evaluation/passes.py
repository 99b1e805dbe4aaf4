"""Passing over data with a model: batch by batch, with a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from ..masking.layout import without_mask
from ..model.sparse_prediction import only_at
from .metric import compute

T = TypeVar("T")


def with_bar(things: Iterable[T], what: str, unit: str) -> Iterable[T]:
    """Return `things` with a bar and its rate as they are taken: on a terminal, from the second second on.

    >>> list(with_bar([1, 2], "Evaluating", "batch"))
    [1, 2]
    """
    shown = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    return tqdm(things, desc=what, unit=f" {unit}", delay=2, leave=False, dynamic_ncols=True, disable=not shown)


@torch.no_grad()
def masked_logits(model: Any, batch: dict[str, Any], sparse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits at a batch's masked tokens, float32, shape `(masked, vocab)`, and the true tokens, `(masked,)`.

    With `sparse` the head computes the masked positions only. The batch may be padded or padding-free.
    """
    labels = batch["labels"]
    masked = labels != -100  # (batch, seq_len), or (1, tokens)
    inputs = without_mask({name: value for name, value in batch.items() if name != "labels"})
    if sparse:
        with only_at(model, masked):
            logits = model(**inputs).logits[0]
    else:
        logits = model(**inputs).logits[masked]
    return logits.float(), labels[masked]


def example_sums(model: Any, batch: dict[str, Any], sparse: bool = False) -> torch.Tensor:
    """Return nats, correct first choices and masked tokens of each example, float32, shape `(batch, 3)`.

    The arguments are those of `masked_logits`.
    """
    labels = batch["labels"]
    masked = labels != -100
    logits, targets = masked_logits(model, batch, sparse)
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    # Back in their places and summed along each row: in float32, since MPS has no other, and in a fixed order.
    per_token = nats.new_zeros(3, *labels.shape)  # (3, batch, seq_len)
    per_token[0, masked], per_token[1, masked] = nats, (logits.argmax(-1) == targets).float()
    per_token[2, masked] = 1
    if "cu_seq_lens_q" in batch:
        lengths = batch["cu_seq_lens_q"].diff().tolist()
        return torch.stack([example.sum(-1) for example in per_token[:, 0].split(lengths, dim=-1)])
    return per_token.sum(-1).T


def masked_lm_metrics(
    model: Any,
    batches: Iterable[dict[str, Any]],
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    sparse: bool = False,
) -> dict[str, float]:
    """Evaluate `model` on collated `batches`: loss, accuracy, perplexity, masked_tokens.

    `gather` joins the rows of all processes; by default there is one. `sparse` is as for `example_sums`. The model is
    left in the mode it was in.
    """
    return compute(all_example_sums(model, batches, gather, sparse))


def all_example_sums(
    model: Any,
    batches: Iterable[dict[str, Any]],
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    sparse: bool = False,
) -> np.ndarray:
    """Return `example_sums` of all `batches`, in order: float64, shape `(examples, 3)`.

    The arguments are those of `masked_lm_metrics`.
    """
    was_training = model.training
    model.eval()
    batches = with_bar(batches, "Evaluating", "batch")
    try:
        sums = [(gather or (lambda rows: rows))(example_sums(model, batch, sparse)).cpu() for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(sums).double().numpy()
