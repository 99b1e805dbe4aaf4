"""The cross-entropy of masked tokens, a few rows at a time, since the logits are a step's largest tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..masking.batch_layout import labelled

#: The number of logits that each thread processes at a time: in float32 they take 1 MiB, which fits a core's cache.
_AT_A_TIME = 2**18

#: The number on another device, where each part costs several kernel launches: 32 MiB in float32.
_AT_A_TIME_ELSEWHERE = 2**23


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each row in nats, as `torch.nn.functional.cross_entropy` does without reduction.

    Args:
        logits: shape `(rows, vocab)`, of any floating type; the arithmetic is float32.
        labels: shape `(rows,)`; -100 for a row without a loss.

    Returns float32, shape `(rows,)`. On a CPU and on CUDA, the gradient is the only tensor of the logits' size that is
    allocated; there is no second derivative. On other devices, and while compiling, torch's own function is used.

    >>> cross_entropy(torch.zeros(2, 8), torch.tensor([5, -100])).tolist()  # log(8)
    [2.079441547393799, 0.0]
    """
    if logits.device.type not in ("cpu", "cuda") or torch.compiler.is_compiling():
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    nats: torch.Tensor = _CrossEntropy.apply(logits, labels)
    return nats


def few_rows(*rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the same few rows of each tensor; the first tensor has the vocabulary's width.

    >>> [tuple(part.shape) for part, _ in few_rows(torch.zeros(3, 8), torch.zeros(3))]
    [(3, 8)]
    """
    on_cpu = rows[0].device.type == "cpu"
    logits = torch.get_num_threads() * _AT_A_TIME if on_cpu else _AT_A_TIME_ELSEWHERE
    count = max(1, logits // max(1, rows[0].shape[1]))
    return zip(*(each.split(count) for each in rows), strict=True)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nats = torch.empty(labels.shape, dtype=torch.float32, device=labels.device)
        for part, label, result in few_rows(logits, labels, nats):
            logarithms = part.log_softmax(-1, dtype=torch.float32)
            result.copy_(torch.nn.functional.nll_loss(logarithms, label, reduction="none"))
        ctx.save_for_backward(logits, labels)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        logits, labels = ctx.saved_tensors
        to_logits = torch.empty_like(logits)
        gradient = gradient.where(labelled(labels), 0.0)
        for part, label, given, result in few_rows(logits, labels, gradient, to_logits):
            # The probabilities minus their targets: 1 for the label, 0 for all others.
            in_place = result.dtype == torch.float32
            above = torch.softmax(part, -1, dtype=torch.float32, out=result if in_place else None)
            above[torch.arange(len(label), device=label.device), label.clamp_min(0)] -= 1
            above.mul_(given.unsqueeze(-1))
            if not in_place:
                result.copy_(above)
        return to_logits, None
