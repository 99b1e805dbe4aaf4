"""The evaluator: runs a model over batches and returns the loss and the rank of each masked token."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

from ..masking.batch_layout import sum_by_example, without_mask
from ..masking.batch_plan import masked_positions
from ..masking.random_keys import Floats
from ..model.cross_entropy import cross_entropy, few_rows
from ..model.evaluation_mode import evaluation_mode
from ..model.sparse_prediction import only_at
from .predictions import Predictions

T = TypeVar("T")


def with_bar(things: Iterable[T], what: str, unit: str, wanted: bool = True) -> Iterable[T]:
    """Return `things`, with a progress bar and its rate if stderr is a terminal; it appears after two seconds.

    >>> list(with_bar([1, 2], "Evaluating", "batch"))
    [1, 2]
    """
    shown = wanted and sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    return tqdm(things, desc=what, unit=f" {unit}", delay=2, leave=False, dynamic_ncols=True, disable=not shown)


@torch.no_grad()
def evaluate_batches(
    model: Any,
    batches: Iterable[dict[str, Any]],
    keep: Callable[[dict[str, Any], torch.Tensor, torch.Tensor], T],
    sparse: bool = False,
    read: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
) -> list[T]:
    """Evaluate `model` on every masked token of `batches`; return the result of `keep` for each batch.

    Args:
        model: it keeps its mode (training or evaluation).
        batches: collated, padded or padding-free.
        keep: called with a batch on the model's device, and with the cross-entropy in nats (float32) and the rank
            (int32) of each masked token, both of shape `(masked,)` in the order of the labels. The rank is the number
            of tokens that the model ranks before the true one.
        sparse: compute the head at masked positions only.
        read: called before `keep` with the logits (float32) and the true ids of a few masked tokens at a time, of shape
            `(some, vocab)` and `(some,)`, until it has got all of the batch, in the order of the labels.
    """
    device = next(model.parameters()).device
    found = []
    with evaluation_mode(model):
        for batch in batches:
            there = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
            found.append(keep(there, *_nats_and_ranks(model, there, sparse, read)))
    return found


def _nats_and_ranks(
    model: Any, batch: dict[str, Any], sparse: bool, read: Callable[[torch.Tensor, torch.Tensor], None] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    positions = masked_positions(batch["labels"])
    inputs = without_mask({name: value for name, value in batch.items() if name != "labels"})
    with only_at(model, positions) if sparse else nullcontext():
        logits = model(**inputs).logits.flatten(0, 1)
    logits = logits if sparse else logits[positions]  # (masked, vocab)
    targets = batch["labels"].flatten()[positions]
    nats = torch.empty(targets.shape, device=targets.device, dtype=torch.float32)
    ranks = torch.empty(targets.shape, device=targets.device, dtype=torch.int32)
    # A few rows at a time, so that nothing else of the logits' size is allocated. The results are allocated first:
    # small tensors that outlive each part would leave holes in the heap, which then grows by the parts' size.
    for part, own, nats_here, ranks_here in few_rows(logits, targets, nats, ranks):
        part = part.float()
        nats_here.copy_(cross_entropy(part, own))
        ranks_here.copy_(_ranks(part, own))
        if read is not None:
            read(part, own)
    return nats, ranks


def _ranks(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the number of tokens before the true one; if its logit is NaN, all of them."""
    own = logits.gather(-1, targets[:, None])
    # Equal logits, which are common in half precision, rank by their ids, as in argmax.
    behind = logits == own
    behind &= torch.arange(logits.shape[-1], device=logits.device) >= targets[:, None]  # the true token too
    behind |= logits < own
    return logits.shape[-1] - behind.sum(-1, dtype=torch.int32)


def evaluate_examples(
    model: Any,
    batches: Iterable[dict[str, Any]],
    gather: Callable[[torch.Tensor], torch.Tensor],
    sparse: bool = False,
    predictions: Predictions | None = None,
) -> Floats:
    """Return nats, correct first choices and masked tokens of each example, shape `(examples, 3)`.

    `gather` joins the rows of all processes and drops repeated examples, as `Accelerator.gather_for_metrics` does.
    `predictions` gets what the model predicts. For the other arguments, see `evaluate_batches`.
    """

    def sums(batch: dict[str, Any], nats: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
        found = gather(sum_by_example(batch, nats, ranks == 0, torch.ones_like(nats))).cpu()
        if predictions is not None:
            predictions.end_batch(batch, nats)
        return found

    read = None if predictions is None else predictions.read
    found = evaluate_batches(model, batches, sums, sparse, read)
    return torch.cat([*found, torch.empty(0, 3)]).double().numpy()
