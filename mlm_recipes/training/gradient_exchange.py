"""How processes average their gradients: by DDP during the backward pass, and what to do where one fails in it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .processes import highest


class GradientExchange:
    """The exchange that DDP makes while gradients are computed, one all-reduce for each of its buckets.

    A process that fails on the way would leave the others waiting for its buckets. This one counts those that were
    sent, in a communication hook that computes what DDP does without one, to the last bit; so it can send the others.

    For the same reason the model's buffers are no longer broadcast before each pass: an encoder's are constants
    (positions, rotary frequencies).

    Args:
        ddp: the model, before its first pass.
        broadcast_buffers: whether they are nonetheless; then, as with batch normalisation, whose buffers change, and
            with a static graph, `can_finish` is False and all stays as it was.
    """

    def __init__(self, ddp: DistributedDataParallel, broadcast_buffers: bool = False) -> None:
        self.ddp = ddp
        changing = any(isinstance(each, _BatchNorm) for each in ddp.modules())
        self.can_finish = not (broadcast_buffers or changing or ddp.static_graph)
        # A list of its own, which the hook fills: DDP holds the hook, and this would hold DDP.
        self._sent: list[torch.futures.Future[torch.Tensor]] = []
        if self.can_finish:
            ddp.broadcast_buffers = False
            ddp.register_comm_hook(self._sent, _average)

    def begin(self) -> None:
        """Count anew: what follows is a pass that exchanges gradients."""
        self._sent.clear()

    def finish(self) -> None:
        """Send zeros for each bucket that was not sent; what the others receive is of no use to them.

        DDP's own way for processes that have run out of batches (`DistributedDataParallel.join`).
        """
        reducer: Any = self.ddp.reducer
        missing = reducer._get_zeros_like_grad_buckets()[len(self._sent) :]
        for bucket in missing:
            reducer._run_comm_hook(bucket)
        if missing and self.ddp.find_unused_parameters:  # sent once, behind the last bucket
            self.ddp._match_unused_params_allreduce()
        for each in self._sent:
            each.wait()

    def end(self) -> None:
        """Take DDP's hooks off the parameters, in which a failed pass has left them waiting for the rest of it.

        From now on gradients are computed by the model inside, and averaged by `average_gradients`.
        """
        ddp: Any = self.ddp
        ddp.reducer = ddp.logger = None  # both hold the reducer, which takes its hooks along


def _average(sent, bucket):  # type: ignore[no-untyped-def]  # DDP would compare what is written here with its types
    gradients = bucket.buffer()
    gradients.mul_(1.0 / dist.get_world_size())  # as DDP does; to divide would give other bits
    work: Any = dist.all_reduce(gradients, async_op=True)
    sent.append(work.get_future().then(lambda done: done.value()[0]))
    return sent[-1]


def average_gradients(model: torch.nn.Module) -> None:
    """Average the gradients of a model over all processes, in place; all must call it.

    A gradient that no process has stays None, so that the optimizer leaves its parameter alone.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = highest(*(int(parameter.grad is not None) for parameter in parameters))
    sent: list[Any] = []
    for parameter, by_any in zip(parameters, used, strict=True):
        if by_any:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.mul_(1.0 / dist.get_world_size())
            sent.append(dist.all_reduce(parameter.grad, async_op=True))
    for each in sent:
        each.wait()
