"""Out of memory: halve the micro-batch and double accumulation; global batch, loss and gradients stay the same.

The loss is a sum over masked tokens, divided once by their number in the whole optimizer step. So a micro-batch can be
computed in parts, whose losses and gradients add up to its own. Nothing is restarted and no batch is drawn again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...masking.batch_layout import count_examples, split
from ...report.wording import count
from ...sources.escaping import first_line
from ..batches.example_order import seed_step
from ..distributed.gradient_exchange import GradientExchange, average_gradients
from ..distributed.processes import highest, several

logger = logging.getLogger(__name__)

_FITS, _TOO_LARGE, _ONE_EXAMPLE = range(3)

#: The entry of trainer_state.json's `stateful_callbacks` that says how many examples fit.
_KEPT_AS = "micro_batch_that_fits"

#: The full messages of oneDNN and the C++ library, for allocations outside torch's allocator (seen under RLIMIT_AS).
_ON_A_CPU = {"could not create a primitive", "std::bad_alloc"}

_SMALLER = (
    "Shorten the rows (--max_length), keep fewer activations (--gradient_checkpointing true), or take a smaller model."
)


class MicroBatchParts(TrainerCallback):
    """Compute each micro-batch of an optimizer step, in `parts` if it does not fit into memory at once.

    If memory runs out in the forward or backward pass, the step's gradients are discarded at its end, `parts` doubles,
    and all its micro-batches are computed again, until they fit. `parts` is kept for the following steps and for a
    resumed run. Dropout is drawn again from the step's seed, so it is the same as in a run that had these parts from
    the start.

    All processes have the same `parts`. A process that fails sends zeros for the gradients that DDP expects from it;
    all learn of the failure at the end of the step and repeat the step. From then on they average their gradients at
    the end of the backward pass, not during it (`mlm_recipes.training.distributed.gradient_exchange`).
    """

    def __init__(self) -> None:
        self.parts = 1
        self._step: tuple[TrainingArguments, TrainerState] | None = None
        self._micro_batches: list[Any] = []
        self._returned: Any = 0.0
        self._failed, self._error = _FITS, ""
        self._exchange: GradientExchange | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the number of parts that an interrupted run had."""
        kept: Any = state.stateful_callbacks
        fits = kept.get(_KEPT_AS, _size(args))
        while self._fitting(args) > fits:
            self.parts *= 2

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the previous step."""
        self._step = args, state
        self._micro_batches, self._returned, self._failed, self._error = [], 0.0, _FITS, ""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the last step."""
        self._step, self._micro_batches = None, []

    def training_step(
        self, compute: Callable[[Any, Any], torch.Tensor], model: Any, inputs: Any, *, last: bool, reason: str | None
    ) -> torch.Tensor:
        """Return the loss of one micro-batch, after its backward pass.

        Args:
            compute: runs both passes and returns the loss, given the model and a batch.
            model: as prepared by accelerate.
            inputs: the micro-batch; see `split`.
            last: whether it is the last of its optimizer step.
            reason: why this run's micro-batches cannot be computed in parts, or None if they can.

        The losses returned for a step add up to the step's loss, even if parts of it had to be computed again.

        Raises: MemoryError if a single example does not fit, or if the micro-batch does not fit and `reason` is given.
        """
        if self._step is None:  # no step has begun: the call does not come from train()
            return compute(model, inputs)
        args, _ = self._step
        exchange = None if reason else self._exchange_of(model, args)
        if several() and (exchange is None or not exchange.can_finish):
            reason = reason or "several processes pass through it together"
        if reason:
            return _whole(compute, model, inputs, args, reason)

        inner = model if exchange is None else exchange.ddp.module
        sending = exchange if self.parts == 1 and last else None
        self._micro_batches.append(inputs)
        loss: Any = 0.0
        if sending:
            sending.begin()
        if self._failed == _FITS:
            loss = self._attempt(compute, model if self.parts == 1 else inner, [inputs])
        if sending and self._failed != _FITS:
            _free(inner)
            sending.finish()
        if last:
            (worst,) = highest(self._failed)
            if worst != _FITS:
                loss = self._again(compute, inner, worst) - self._returned
            if exchange and self.parts > 1:
                average_gradients(inner)
        self._returned = self._returned + loss
        return torch.as_tensor(loss, device=args.device)

    def _exchange_of(self, model: Any, args: TrainingArguments) -> GradientExchange | None:
        if not isinstance(model, DistributedDataParallel):
            return None
        if self._exchange is None or self._exchange.ddp is not model:
            self._exchange = GradientExchange(model, broadcast_buffers=bool(args.ddp_broadcast_buffers))
            if self.parts > 1:
                self._exchange.end()
        return self._exchange

    def _attempt(self, compute: Callable[[Any, Any], torch.Tensor], model: Any, micro_batches: list[Any]) -> Any:
        """Return the loss of micro-batches; if memory runs out, record that and return the loss so far."""
        loss: Any = 0.0
        try:
            for micro_batch in micro_batches:
                for part in split(micro_batch, self.parts):
                    loss = loss + compute(model, part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._failed = _TOO_LARGE if count_examples(micro_batch) > self.parts else _ONE_EXAMPLE
            self._error = first_line(error)
        # Only here are the failed pass's tensors freed: the exception's traceback held them.
        return loss

    def _again(self, compute: Callable[[Any, Any], torch.Tensor], model: Any, worst: int) -> Any:
        """Return the loss of the whole step, computed in as many parts as needed."""
        assert self._step is not None
        args, state = self._step
        before = self.parts
        if self._exchange is not None:
            self._exchange.end()
        while worst != _FITS:
            if worst == _ONE_EXAMPLE:
                name, size = _asked(args)
                raise MemoryError(
                    f"{name}: received {size}, but not even a single row fits into memory "
                    f"({self._error or 'in another process'}). Accepted: rows that fit. {_SMALLER}"
                )
            self.parts *= 2
            _free(model)
            seed_step(args, state.global_step)
            self._failed = _FITS
            loss = self._attempt(compute, model, self._micro_batches)
            (worst,) = highest(self._failed)
        kept: Any = state.stateful_callbacks
        kept[_KEPT_AS] = self._fitting(args)
        if args.process_index == 0:
            logger.warning(
                "Out of memory in step %d: from now on a micro-batch is %s instead of %d, accumulated %d times "
                "instead of %d. The global batch and the result stay the same.",
                state.global_step + 1,
                count(self._fitting(args), "row" if _asked(args)[0] == "per_device_train_batch_size" else "token"),
                -(-_size(args) // before),
                args.gradient_accumulation_steps * self.parts,
                args.gradient_accumulation_steps * before,
            )
        return loss

    def _fitting(self, args: TrainingArguments) -> int:
        return -(-_size(args) // self.parts)


def _asked(args: Any) -> tuple[str, int]:
    """Return the option that decides the size of a micro-batch, and its value."""
    name = "per_device_train_batch_size" if args.tokens_per_batch is None else "tokens_per_batch"
    return name, getattr(args, name)


def _size(args: Any) -> int:
    """Return the rows of a micro-batch; if steps have a number of tokens, about how many of these."""
    name, size = _asked(args)
    parts = args.gradient_accumulation_steps * args.world_size if name == "tokens_per_batch" else 1
    return -(-size // parts)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an exception means that a device or the machine has run out of memory.

    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    True
    >>> is_out_of_memory(RuntimeError("shape mismatch"))
    False
    """
    ours = isinstance(error, MemoryError | torch.OutOfMemoryError) or str(error).strip() in _ON_A_CPU
    return ours or should_reduce_batch_size(error)


def _whole(
    compute: Callable[[Any, Any], torch.Tensor], model: Any, inputs: Any, args: TrainingArguments, reason: str
) -> torch.Tensor:
    """Return the loss of a micro-batch that cannot be computed in parts."""
    try:
        return compute(model, inputs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        (name, size), steps = _asked(args), args.gradient_accumulation_steps
        times = next((n for n in range(2, size + 1) if size % n == 0), 1)  # keeps the global batch
        smaller = f"--per_device_train_batch_size {size // times} --gradient_accumulation_steps {steps * times}"
        if name == "tokens_per_batch":  # those of a step, whatever the number of micro-batches
            smaller = f"--gradient_accumulation_steps {2 * steps}"
        message = (
            f"{name}: received {size}, which does not fit into memory ({first_line(error)}) and is not computed in "
            f"parts: {reason}. Accepted: a batch that fits. {f'Pass {smaller}.' if size > 1 else _SMALLER}"
        )
        raise MemoryError(message) from error


def _free(model: torch.nn.Module) -> None:
    """Free the gradients and what a failed pass has left."""
    model.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
