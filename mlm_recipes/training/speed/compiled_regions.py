"""Compiles the model for the time of training, after a trial on one batch; if the trial fails, nothing is compiled."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import TrainerCallback, TrainerControl, TrainerState

from ...data.streams import TextStream
from ...evaluation.forward_passes import evaluate_batches
from ...masking.batch_layout import labelled
from ...masking.collator import DataCollatorForMaskedLM
from ...metrics_file import Compilation
from ...model.compiled_regions import compile_regions, find_regions, restore_regions
from ...model.evaluation_mode import evaluation_mode
from ...model.rounding_bounds import rounding_bound, summed_terms
from ...sources.escaping import first_line
from ..distributed.processes import from_main, highest
from ..faults.out_of_memory import is_out_of_memory
from .compile_choice import operations, why_not_worth_it

logger = logging.getLogger(__name__)

#: Graphs that torch keeps for each function before it stops compiling it. Its own limit, 8, is for one model: here
#: different models share a layer's code, and each layer is compiled with and without gradients.
_GRAPHS = 64

#: A batch as the collator returns it, on the model's device.
Batch = dict[str, Any]


class CompiledRegions(TrainerCallback):
    """Compile the model's layers and its head when training begins (`MLMConfig.torch_compile`).

    A trial on a batch of the run's usual shape compiles what training and evaluation need. It happens before the first
    step, on the same batch in a resumed run, so that both use the same kernels. In evaluation mode the compiled model
    must agree with the uncompiled one, and in training mode its loss and gradients must be finite. If it fails in any
    process, all train without compiling, and one line says why.

    Args:
        trainer: an MLMTrainer.
        collator: makes the trial's batch, with frozen masks.
        unlike: why the batches of training may be unlike it, so that nothing can be tried beforehand, or None.
    """

    def __init__(self, trainer: Any, collator: DataCollatorForMaskedLM, unlike: str | None) -> None:
        self._trainer, self._collator, self._unlike = trainer, collator, unlike
        self._settings = ExitStack()
        self._regions: list[torch.nn.Module] = []
        #: What metrics.json records; None if nothing was tried.
        self.facts: Compilation | None = None

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Compile the model, if that is requested or saves time."""
        self.facts = None
        asked = args.torch_compile
        if asked is False or (asked == "auto" and args.device.type != "cuda"):
            logger.debug("torch_compile is off: it is %s, on %s.", asked, args.device.type)
            return
        micro_batches = args.gradient_accumulation_steps * args.world_size
        rows = self._sample(max(1, self._trainer.get_total_train_batch_size(args) // micro_batches))
        why = self._why_not(args, state, model, rows)
        if why is None:
            started = time.perf_counter()
            # The number of labels, as the model gets it in training. All processes count it together.
            _, count = self._trainer.get_batch_samples(iter([self._batch(rows)]), 1, args.device)
            with torch.random.fork_rng(devices=[args.device] if args.device.type == "cuda" else []):
                why = self._tried(args, model, rows, count)
            (failed,) = highest(why is not None)
            if failed:
                why = why or "it failed in another process"
                self.restore()
            self.facts = {"regions": len(self._regions), "seconds": time.perf_counter() - started}
        if args.process_index == 0:
            self._announce(asked, why)

    def _announce(self, asked: bool | str, why: str | None) -> None:
        if why is None:
            assert self.facts is not None
            logger.info("torch_compile is on: %(regions)d regions of the model, in %(seconds).0f s.", self.facts)
        elif asked == "auto" and self.facts is None:
            logger.info("torch_compile is off: %s.", why)
        else:
            logger.warning("torch_compile is off: %s. The result is the same, but a step may take longer.", why)

    def restore(self) -> None:
        """Undo everything; the model is then as it was before training."""
        restore_regions(self._regions)
        self._regions = []
        self._settings.close()

    def _why_not(self, args: Any, state: TrainerState, model: Any, rows: list[Any]) -> str | None:
        """Return why the model is not compiled, or None if it is to be tried."""
        if self._trainer.is_fsdp_enabled:
            return "FSDP joins and divides each layer itself"
        if not find_regions(model, model.base_model):
            return f"{type(model).__name__} has no repeated layers that can be found"
        if args.torch_compile is True:
            return None
        why = self._unlike or self._why_not_worth_it(args, state, model, rows)
        return None if why is None else f"{why} (--torch_compile true compiles anyway)"

    def _why_not_worth_it(self, args: Any, state: TrainerState, model: Any, rows: list[Any]) -> str | None:
        batch = self._batch(rows)
        embeddings = {id(weight) for weight in model.get_input_embeddings().parameters()}
        one_pass = operations(
            (weight for weight in model.base_model.parameters() if id(weight) not in embeddings),
            (weight for child in model.children() if child is not model.base_model for weight in child.parameters()),
            tokens=batch["input_ids"].numel(),
            predicted=int(labelled(batch["labels"]).sum()),
        )
        passes = state.max_steps * args.gradient_accumulation_steps
        return why_not_worth_it(one_pass, passes, replayed=self._trainer.records_graphs)

    def _sample(self, number: int) -> list[Any]:
        """Return rows spread evenly over the training data, or the first ones of a stream, in all processes the same.

        Of short data, some are returned several times.
        """
        there: Any = self._trainer.train_dataset
        if isinstance(there, TextStream):
            stream = there
            there = self._trainer.stream_rows(from_main(lambda: stream.first(number)))
            there = [row | {"example_id": index} for index, row in enumerate(there)]
        return [there[index * len(there) // number] for index in range(number)]

    def _batch(self, rows: list[Any]) -> Batch:
        found: Batch = self._trainer._prepare_inputs(self._collator(rows))
        return found

    def _nats(self, batch: Batch) -> torch.Tensor:
        """Return the loss of each masked token, in evaluation mode."""
        trainer = self._trainer
        with trainer.accelerator.autocast():
            (found,) = evaluate_batches(
                trainer.model, [batch], lambda batch, nats, ranks: nats, trainer.sparse_prediction
            )
        return found

    def _tried(self, args: Any, model: Any, rows: list[Any], count: Any) -> str | None:
        """Compile the model and try it; return why it cannot be used, or None if it can."""
        settings = torch._dynamo.config
        while True:
            try:
                batch = self._batch(rows)
                self.restore()
                expected = self._nats(batch)
                self._settings.enter_context(settings.patch(recompile_limit=_GRAPHS))
                self._regions = find_regions(model, model.base_model)
                options = {"backend": args.torch_compile_backend, "mode": args.torch_compile_mode}
                compile_regions(self._regions, **{name: value for name, value in options.items() if value is not None})
                why = self._difference(args, model, batch, expected, count)
                # A shape that the trial did not have must not end the run if it cannot be compiled; torch logs it.
                self._settings.enter_context(settings.patch(suppress_errors=True))
                return why
            except Exception as error:  # a compiler raises whatever it likes
                if not is_out_of_memory(error) or len(rows) == 1:
                    return f"compiling fails ({type(error).__name__}: {first_line(error)})"
            # Only here are the failed pass's tensors freed: the exception's traceback held them.
            rows = rows[::2]
            clear_device_cache(garbage_collection=True)

    def _difference(self, args: Any, model: Any, batch: Batch, expected: torch.Tensor, count: Any) -> str | None:
        found = self._nats(batch)
        difference, size = float((found - expected).norm()), float(expected.norm())
        if not difference <= _bound(args, model, batch) * size:
            return f"the compiled model's losses differ by {difference / size:.1e}"
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with evaluation_mode(model):  # which restores the mode
            model.train()
            # Not backward(), which would add to the gradients, and send them to other processes.
            loss = self._trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        finite = all(bool(torch.isfinite(each).all()) for each in (loss, *gradients) if each is not None)
        return None if finite else "the compiled model's loss or gradient is not finite"


def _bound(args: Any, model: Any, batch: Batch) -> float:
    """Return how far the losses may differ, relative to their norm.

    A compiled region does not round between fused operations. In half precision a product still adds up in float32,
    and its result is rounded once: there is about one such rounding for each parameter. TF32, which may be used for
    float32 on CUDA, has as many bits as float16.
    """
    if args.bf16 or args.fp16 or args.device.type == "cuda":
        roundings = sum(1 for _ in model.parameters())
        return rounding_bound(roundings, torch.bfloat16 if args.bf16 else torch.float16)
    return rounding_bound(summed_terms(model, batch["input_ids"].numel()))
