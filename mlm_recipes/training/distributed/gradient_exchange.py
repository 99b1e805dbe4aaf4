"""How processes average their gradients: DDP's exchange in the backward pass, and how to finish it after a failure."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .processes import highest


class GradientExchange:
    """DDP's exchange of gradients during the backward pass, with one all-reduce for each of its buckets.

    A process that fails in the middle would leave the others waiting for its buckets. This class counts the buckets
    that were sent, in a communication hook that matches DDP's default bit for bit, so it can send the missing ones.

    For the same reason the model's buffers are not broadcast before each pass: an encoder's buffers are constants
    (positions, rotary frequencies).

    Args:
        ddp: the model, before its first pass.
        broadcast_buffers: broadcast the buffers anyway. Then `can_finish` is False and nothing is changed, as with
            batch normalisation, whose buffers change, and with a static graph.
    """

    def __init__(self, ddp: DistributedDataParallel, broadcast_buffers: bool = False) -> None:
        self.ddp = ddp
        changing = any(isinstance(each, _BatchNorm) for each in ddp.modules())
        self.can_finish = not (broadcast_buffers or changing or ddp.static_graph)
        # The hook gets only this list: DDP refers to the hook, and `self` would refer to DDP.
        self._sent: list[torch.futures.Future[torch.Tensor]] = []
        if self.can_finish:
            ddp.broadcast_buffers = False
            ddp.register_comm_hook(self._sent, _average)

    def begin(self) -> None:
        """Reset the count: a pass that exchanges gradients follows."""
        self._sent.clear()

    def finish(self) -> None:
        """Send zeros for each bucket that was not sent; the other processes discard the result.

        DDP does the same for processes that have run out of batches (`DistributedDataParallel.join`).
        """
        reducer: Any = self.ddp.reducer
        missing = reducer._get_zeros_like_grad_buckets()[len(self._sent) :]
        for bucket in missing:
            reducer._run_comm_hook(bucket)
        if missing and self.ddp.find_unused_parameters:  # sent once, after the last bucket
            self.ddp._match_unused_params_allreduce()
        for each in self._sent:
            each.wait()

    def end(self) -> None:
        """Remove DDP's hooks from the parameters; after a failed pass they still wait for its remaining gradients.

        From now on the wrapped model computes gradients, and `average_gradients` averages them.
        """
        ddp: Any = self.ddp
        ddp.reducer = ddp.logger = None  # both refer to the reducer; when it is freed, it removes its hooks


def _average(sent, bucket):  # type: ignore[no-untyped-def]  # DDP would check the annotations against its own types
    gradients = bucket.buffer()
    gradients.mul_(1.0 / dist.get_world_size())  # as DDP does; a division would give different bits
    work: Any = dist.all_reduce(gradients, async_op=True)
    sent.append(work.get_future().then(lambda done: done.value()[0]))
    return sent[-1]


def average_gradients(model: torch.nn.Module) -> None:
    """Average the gradients of a model over all processes, in place; all processes must call this.

    A gradient that no process has stays None, so that the optimizer does not change its parameter.
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
