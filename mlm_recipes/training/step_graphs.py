"""Replays the forward and backward pass of small batches as CUDA graphs, since starting their kernels takes longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..masking.batch_plan import POSITIONS
from ..masking.buckets import shape_of
from ..metrics_file import RecordedGraphs
from ..model.rounding_bounds import rounding_bound, summed_terms
from ..sources.escaping import first_line
from .out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)

#: The most tokens of a batch that is recorded. Starting the 1,700 kernels of a bert-base step took 43 ms, and computing
#: a token 2 microseconds (an H200, docs/speed.md): beyond some 20,000 tokens the kernels are started in time anyway.
MOST_TOKENS = 16_384

#: A shape is recorded when it comes for the second time: recording takes some five steps.
_COMES = 2

#: About how many shapes the batches of one size have, and the most that are recorded.
USUAL_SHAPES, _MOST_SHAPES = 16, 64

#: A replay must take less than this share of the time of the pass it replaces, or nothing is recorded.
_FASTER = 0.95

#: The largest relative difference between two sums of the same bfloat16 numbers, which have 8 bits, in another order.
_SUMS_IN_HALF = 1e-2

#: Computes a micro-batch's loss and adds its gradients to those that are there.
Pass = Callable[[Mapping[str, Any], torch.Tensor], torch.Tensor]


class Recorder(Protocol):
    """What records a pass, to be run again on whatever its tensors then contain; `bytes` is the memory it keeps."""

    bytes: int

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what runs `act` again."""

    def seconds(self, act: Callable[[], None]) -> float:
        """Run `act` and return the seconds that it took on the device."""


class CudaGraphs:
    """Records CUDA graphs, which share their memory: only one runs at a time, and nothing of it is used afterwards."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self.bytes = 0

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what replays the kernels of `act`; it is run once before, so that recording sets nothing up."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            act()
        torch.cuda.current_stream().wait_stream(stream)
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.memory_reserved()
        # The loader's thread, which pins memory, may go on meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            act()
        self.bytes += max(0, torch.cuda.memory_reserved() - before)
        return graph.replay

    def seconds(self, act: Callable[[], None]) -> float:
        """Run `act` and return the seconds that it took, measured on the device."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        act()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000


@dataclass
class _Recording:
    """What was recorded, and the tensors that it reads and writes."""

    inputs: dict[str, Any]
    count: torch.Tensor  # the divisor of the loss
    loss: torch.Tensor
    replay: Callable[[], None] = lambda: None

    def run(self, batch: Mapping[str, Any], count: torch.Tensor) -> torch.Tensor:
        """Return the loss of another batch of the same shape."""
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                self.inputs[name].copy_(value, non_blocking=True)
        self.count.copy_(count, non_blocking=True)
        self.replay()
        return self.loss.clone()


class StepGraphs:
    """Runs a micro-batch's passes, replaying what was recorded for its shape.

    The first batch of a shape is computed as usual. When the shape comes again, its passes are recorded, and the
    replay's loss and gradients are compared with those of the pass itself, with the same dropout. If they differ, if
    recording fails, or if a replay is hardly faster, all batches are computed as usual from then on, and one line gives
    the reason.

    A replay adds to the gradients where they were when it was recorded. So from the first recording on, the gradients
    of all steps are parts of one tensor, for those parameters that have a gradient.

    Args:
        model: the model, in training mode.
        compute: computes the passes as usual.
        half: whether the passes compute in half precision, in which sums in another order differ by more.
        recorder: by default CUDA's graphs.

    Attributes:
        recorded: the recordings, by shape.
        facts: how many there were, the seconds that recording took, and the memory that they kept.
        reason: why nothing is recorded any more, or None.
    """

    def __init__(
        self, model: torch.nn.Module, compute: Pass, *, half: bool = True, recorder: Recorder | None = None
    ) -> None:
        self.model, self._compute, self._half = model, compute, half
        self._recorder = CudaGraphs() if recorder is None else recorder
        self.recorded: dict[Any, _Recording] = {}
        self._seconds = 0.0
        #: What metrics.json records.
        self.facts: RecordedGraphs = {"shapes": 0, "seconds": 0.0, "bytes": 0}
        self.reason: str | None = None
        self._came: dict[Any, int] = {}
        self._flat: torch.Tensor | None = None
        self._parts: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def __call__(self, batch: Mapping[str, Any], count: torch.Tensor) -> torch.Tensor:
        """Return the loss of a micro-batch, and add its gradients to those that are there.

        Args:
            batch: on the model's device. It is recorded if it was filled up (`mlm_recipes.masking.buckets`).
            count: the number of labels in the optimizer step, a scalar on the device.
        """
        self._collect_gradients()
        if self.reason is not None or POSITIONS not in batch or batch["input_ids"].numel() > MOST_TOKENS:
            return self._compute(batch, count)
        shape = (*shape_of(batch), count.dtype)
        if shape in self.recorded:
            return self.recorded[shape].run(batch, count)
        self._came[shape] = self._came.get(shape, 0) + 1
        if self._came[shape] < _COMES or len(self.recorded) >= _MOST_SHAPES:
            return self._compute(batch, count)
        if self._flat is None:
            loss = self._compute(batch, count)
            self._make_gradients()  # now it is known which parameters have one
            return loss
        started = time.monotonic()
        loss = self._record(shape, batch, count)
        self._seconds += time.monotonic() - started
        self.facts = {"shapes": len(self.recorded), "seconds": self._seconds, "bytes": self._recorder.bytes}
        return loss

    def _stop(self, reason: str) -> None:
        """Compute everything as usual from now on."""
        self.reason = reason
        self.recorded.clear()
        logger.warning("cuda_graphs is off: %s. The result is the same, but a small step may take longer.", reason)

    def free(self) -> None:
        """Forget the recordings and free their memory; the gradients stay with the parameters."""
        if self.recorded:
            logger.info(
                "cuda_graphs: small steps of %(shapes)d shapes were replayed; recording them took %(seconds).0f s, and "
                "they kept %(bytes)d bytes.", self.facts
            )  # fmt: skip
        self.recorded.clear()
        self._flat, self._parts = None, []

    def _make_gradients(self) -> None:
        """Allocate the tensor of all gradients, and move them there."""
        having = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        if len({(parameter.dtype, parameter.device) for parameter in having}) > 1:
            self._stop("the gradients have several dtypes or devices, so that they are not one tensor")
            return
        sizes = [parameter.numel() for parameter in having]
        self._flat = having[0].new_zeros(sum(sizes))
        self._parts = [(each, part.view_as(each)) for each, part in zip(having, self._flat.split(sizes), strict=True)]
        self._collect_gradients()

    def _collect_gradients(self) -> None:
        """Move the gradients to the tensor of all of them; at the beginning of a step there are none, and it is 0."""
        if self._flat is None or all(parameter.grad is part for parameter, part in self._parts):
            return
        before = [parameter.grad for parameter, _ in self._parts]
        self._flat.zero_()
        for (parameter, part), gradient in zip(self._parts, before, strict=True):
            if gradient is not None:
                part.copy_(gradient)
            parameter.grad = part

    def _record(self, shape: Any, batch: Mapping[str, Any], count: torch.Tensor) -> torch.Tensor:
        """Compute a micro-batch as usual, record its passes, and compare a replay."""
        assert self._flat is not None
        flat, before = self._flat, self._flat.clone()
        inputs = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        recording = _Recording(inputs, count.clone(), count.new_zeros((), dtype=torch.float64))

        def act() -> None:
            recording.loss.copy_(self._compute(dict(inputs), recording.count))

        begun = _random_state(count.device)
        flat.zero_()
        usual = self._recorder.seconds(act)
        done, loss, gradients = _random_state(count.device), recording.loss.clone(), flat.clone()
        try:
            recording.replay = self._recorder.record(act)
            _set_random_state(count.device, begun)
            flat.zero_()
            replay = self._recorder.seconds(recording.replay)
            reason = self._difference((recording.loss, loss), (flat, gradients), batch["input_ids"].numel())
            if reason is None and replay > _FASTER * usual:
                reason = f"a replay takes {replay * 1e3:.1f} ms, and the pass itself {usual * 1e3:.1f} ms"
        except (RuntimeError, MemoryError) as error:
            reason = "memory ran out while recording" if is_out_of_memory(error) else first_line(error)
        _set_random_state(count.device, done)
        if reason is None:
            self.recorded[shape] = recording
        else:
            self._stop(reason)
        torch.add(before, gradients, out=flat)
        for parameter, part in self._parts:  # a recording that failed may have left others
            parameter.grad = part
        return loss

    def _difference(
        self, losses: tuple[torch.Tensor, torch.Tensor], gradients: tuple[torch.Tensor, torch.Tensor], tokens: int
    ) -> str | None:
        """Return how a replay differs from the pass itself, or None. Only the order of sums may differ."""
        dtype = torch.bfloat16 if self._half else torch.float32
        bound = rounding_bound(summed_terms(self.model, tokens, passes=3)) if not self._half else _SUMS_IN_HALF
        for name, (found, expected) in (("loss", losses), ("gradient", gradients)):
            difference = float((found - expected).norm() / expected.norm().clamp(min=torch.finfo(dtype).tiny))
            if not difference <= bound:
                return f"the {name} of a replay differs by {difference:.1e}"
        return None


def _random_state(device: torch.device) -> tuple[torch.Tensor, ...]:
    on_gpu = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return torch.get_rng_state(), *on_gpu


def _set_random_state(device: torch.device, state: tuple[torch.Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
