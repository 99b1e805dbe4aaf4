"""Replays the forward and backward pass of small batches as CUDA graphs, since starting their kernels takes longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ...masking.batch_layout import is_joined
from ...masking.batch_plan import POSITIONS
from ...masking.buckets import shape_of
from ...metrics_file import RecordedGraphs
from ...model.rounding_bounds import rounding_bound, summed_terms
from ...sources.escaping import first_line
from ..faults.out_of_memory import is_out_of_memory
from .cuda_graphs import CudaGraphs

logger = logging.getLogger(__name__)

#: The most tokens of a batch that is recorded. Starting the 1,700 kernels of a bert-base step took 43 ms, and computing
#: a token 2 microseconds (an H200, docs/speed.md): beyond some 20,000 tokens the kernels are started in time anyway.
MOST_TOKENS = 16_384

#: A shape is recorded when it comes for the second time: recording takes some five steps.
_COMES = 2

#: About how many shapes the batches of one size have, and the most that are recorded. If the masked share changes, they
#: are more: 600 batches of 16 paragraphs had 11 at 15%, 18 from 30% to 15%, 44 from 50% to 5%.
USUAL_SHAPES, _MOST_SHAPES = 16, 64

#: A replay must take less than this share of the time of the pass it replaces, or nothing is recorded.
_FASTER = 0.95

#: The largest relative difference between two sums of the same bfloat16 numbers, which have 8 bits, in another order.
_SUMS_IN_HALF = 1e-2

#: The elements of a gradient are allocated in multiples of this: 512 bytes in float32, as torch allocates tensors.
_APART = 128

#: Computes a micro-batch's loss and adds its gradients to those that are there.
Pass = Callable[[Mapping[str, Any], torch.Tensor], torch.Tensor]


class Recorder(Protocol):
    """What records a pass, to be run again on whatever its tensors then contain; `bytes` is the memory it keeps."""

    bytes: int

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what runs `act` again."""

    def seconds(self, act: Callable[[], None]) -> float:
        """Run `act` and return the seconds that it took on the device."""


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
    replay's loss and gradients are compared with those of the pass itself, with the same dropout. If they differ, or if
    recording fails, all batches are computed as usual from then on, and one line gives the reason. If a replay is
    hardly faster, batches of as many tokens or more are.

    A replay adds to the gradients where they were when it was recorded. So from the first recording on, the gradients
    of all steps are parts of one tensor, for those parameters that have a gradient. When a parameter is frozen, or no
    longer frozen, everything begins again.

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
        self._most_tokens = MOST_TOKENS
        self._came: dict[Any, int] = {}
        self._flat: torch.Tensor | None = None
        self._parts: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self._parameters = list(model.parameters())
        self._trained: list[bool] = []

    def __call__(self, batch: Mapping[str, Any], count: torch.Tensor) -> torch.Tensor:
        """Return the loss of a micro-batch, and add its gradients to those that are there.

        Args:
            batch: on the model's device. It is recorded if it was filled up (`mlm_recipes.masking.buckets`).
            count: the number of labels in the optimizer step, a scalar on the device.
        """
        self._notice_frozen()
        self._collect_gradients()
        fits = is_joined(batch) and POSITIONS in batch and batch["input_ids"].numel() <= self._most_tokens
        if self.reason is not None or not fits:
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

    def _notice_frozen(self) -> None:
        """Begin again if other parameters are trained than before: a recording computes the gradients of those."""
        trained = [parameter.requires_grad for parameter in self._parameters]
        if trained != self._trained:
            self._trained = trained
            self._came.clear()
            self.recorded.clear()
            self._flat, self._parts = None, []

    def _make_gradients(self) -> None:
        """Allocate the tensor of all gradients, and move them there."""
        having = [parameter for parameter in self._parameters if parameter.grad is not None]
        if len({(parameter.dtype, parameter.device) for parameter in having}) > 1:
            self._stop("the gradients have several dtypes or devices, so that they are not one tensor")
            return
        # As far apart as if each had memory of its own: a kernel may add up in another order where memory is not
        # aligned, and a resumed run would have another norm.
        sizes = [-(-parameter.numel() // _APART) * _APART for parameter in having]
        self._flat = having[0].new_zeros(sum(sizes))
        self._parts = [
            (parameter, part[: parameter.numel()].view_as(parameter))
            for parameter, part in zip(having, self._flat.split(sizes), strict=True)
        ]
        self._collect_gradients()

    def _collect_gradients(self) -> None:
        """Move the gradients to the tensor of all of them; at the beginning of a step there are none, and it is 0."""
        if self._flat is None or all(parameter.grad is part for parameter, part in self._parts):
            return
        if begins := all(parameter.grad is None for parameter, _ in self._parts):
            self._flat.zero_()
        for parameter, part in self._parts:
            if parameter.grad is None and not begins:
                part.zero_()
            elif parameter.grad is not None and parameter.grad is not part:
                part.copy_(parameter.grad)
            parameter.grad = part

    def _record(self, shape: Any, batch: Mapping[str, Any], count: torch.Tensor) -> torch.Tensor:
        """Compute a micro-batch as usual, record its passes, and compare a replay."""
        assert self._flat is not None
        flat, before = self._flat, self._flat.clone()
        clones = {id(value): value.clone() for value in batch.values() if isinstance(value, torch.Tensor)}
        inputs = {name: clones.get(id(value), value) for name, value in batch.items()}  # one tensor may have two names
        recording = _Recording(inputs, count.clone(), count.new_zeros((), dtype=torch.float64))

        def act() -> None:
            recording.loss.copy_(self._compute(dict(inputs), recording.count))

        tokens, replay, usual = batch["input_ids"].numel(), 0.0, 0.0
        begun = _random_state(count.device)
        flat.zero_()
        act()
        done, loss, gradients = _random_state(count.device), recording.loss.clone(), flat.clone()
        try:
            self._require_known_gradients()
            recording.replay = self._recorder.record(act)
            _set_random_state(count.device, begun)
            flat.zero_()
            recording.replay()
            reason = self._difference((recording.loss, loss), (flat, gradients), tokens)
            if reason is None:  # what comes first takes longer than what follows
                replay, usual = (self._recorder.seconds(each) for each in (recording.replay, act))
        except (RuntimeError, MemoryError) as error:
            reason = "memory ran out while recording" if is_out_of_memory(error) else first_line(error)
        _set_random_state(count.device, done)
        if reason is not None:
            self._stop(reason)
        elif replay > _FASTER * usual:
            self._most_tokens = tokens - 1
            logger.warning(
                "cuda_graphs is off for %d tokens or more: a replay takes %.1f ms, and the pass itself %.1f ms.",
                tokens, replay * 1e3, usual * 1e3,
            )  # fmt: skip
        else:
            self.recorded[shape] = recording
        torch.add(before, gradients, out=flat)
        for parameter, part in self._parts:  # a recording that failed may have left others
            parameter.grad = part
        return loss

    def _require_known_gradients(self) -> None:
        """Raise RuntimeError if a parameter has a gradient elsewhere: a replay would write to memory that was freed."""
        known = {id(parameter) for parameter, _ in self._parts}
        if any(each.grad is not None and id(each) not in known for each in self._parameters):
            raise RuntimeError("a weight has a gradient that had none in an earlier batch")

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
