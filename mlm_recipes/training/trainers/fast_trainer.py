"""`FastTrainer`: the loss of masked tokens, by the fastest way that the model and the run's batches allow."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, partial
from typing import Any, cast

import torch
from accelerate.utils import TorchDynamoPlugin
from transformers.trainer_utils import TrainOutput

from ...masking.batch_layout import PLANNED, labelled, without_mask
from ...masking.batch_plan import FILLING, POSITIONS, Planned, by_length, masked_positions
from ...masking.buckets import filled_up
from ...masking.collator import DataCollatorForMaskedLM
from ...model.dropout import use_fast_dropout
from ...model.dropout_by_row import draw_by_row, stop_drawing_by_row, use_dropout_by_row
from ...model.freezing import freeze
from ...model.loading import missing_weights
from ...model.loss import masked_lm_loss
from ...model.positions import first_position
from ...model.sparse_prediction import only_at
from ..callbacks.progress import TrainingProgress
from ..callbacks.token_counter import TokenCounter
from ..checks.overridden import overrides
from ..checks.set_later import refuse_changed, used_values
from ..distributed.launcher import sharding
from ..distributed.processes import several
from ..distributed.sharding import ignore_view_warning
from ..distributed.unused_parameters import UnusedParameters
from ..faults.nonfinite import poison_nonfinite
from ..inputs import longest_row, other_columns
from ..optimization.adapters import add_adapter
from ..optimization.head_warmup import HeadWarmUp, head_weights
from ..speed.compiled_regions import CompiledRegions
from ..speed.fast_paths import can_be_sparse, can_record, choose_layout, choose_residual
from ..speed.precision import refuse_failing_half
from ..speed.step_graphs import MOST_TOKENS, USUAL_SHAPES, StepGraphs
from .searching_trainer import SearchingTrainer


class FastTrainer(SearchingTrainer):
    """SearchingTrainer that chooses fast paths for its model (training/speed/fast_paths.py), and follows them.

    A subclass sets the attributes below before it calls `use_model`, which each new model passes through.
    """

    #: Shows the progress of training on the terminal.
    progress: TrainingProgress
    #: The caller's collator of training batches, or None for this library's with the config's values.
    _own_collator: Any
    #: The most tokens that a row may have.
    _max_length: int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"compute_loss_func": masked_lm_loss} | kwargs)

    @abstractmethod
    def masking_values(self) -> dict[str, Any]:
        """Return the arguments of DataCollatorForMaskedLM that follow from the config and the training rows."""

    def use_model(self, model: Any) -> None:
        """Choose the collators and the fast paths for a model, and change its layers accordingly."""
        args, tokenizer = self.args, cast(Any, self.processing_class)
        add_adapter(args, model, tokenizer)
        self._used, self._used_model, self._used_rows = used_values(args), model, self.train_dataset
        self._freeze(model)
        ours: Any = self._own_collator
        if not isinstance(ours, DataCollatorForMaskedLM):  # evaluation always uses the config's masking
            ours = DataCollatorForMaskedLM(tokenizer, max_length=self._max_length, **self.masking_values())
        columns = self.model_columns() - {"label", "label_ids"}
        ours = ours.changed(columns=columns)
        own = self._own_collator is not None and not isinstance(self._own_collator, DataCollatorForMaskedLM)
        self.data_collator: Any = self._own_collator if own else ours
        own_step = f"{type(self).__name__}.compute_loss" if overrides(type(self), FastTrainer, "compute_loss") else None
        self._own_loss = own_step or ("compute_loss_func" if self.compute_loss_func is not masked_lm_loss else None)
        parted = isinstance(self.data_collator, DataCollatorForMaskedLM) and self._own_loss is None
        sharded = sharding(self.accelerator, args)
        if sharded and self._own_loss is None:
            ignore_view_warning()
        self.remove_callback(UnusedParameters)
        if several() and sharded is None:
            unused = UnusedParameters(model, tokenizer, args.ddp_find_unused_parameters)
            self.accelerator.ddp_handler.find_unused_parameters = unused.search or self.head_warmup is not None
            self.add_callback(unused)
        self.sparse_prediction = can_be_sparse(model, args, tokenizer, self._own_loss)
        evaluated: Any = self.eval_dataset
        sets = [self.train_dataset, *(evaluated.values() if isinstance(evaluated, dict) else [evaluated])]
        others = sorted({name for each in sets for name in other_columns(each, columns)})
        layout = choose_layout(model, args, ours, self._longest_row, parted, sharded, others, own_step)
        self.padding_free, self._in_parts = layout.joined, layout.in_parts
        if sharded is None:
            refuse_failing_half(model, args, tokenizer)
        if self.padding_free:
            joined = ours.changed(padding_free=True, position_ids_start=first_position(model))
            self.data_collator = self.data_collator if own else joined
            ours = joined
        self._evaluation_collator = ours.frozen(args.evaluation_seed)
        # A compute_loss of a subclass may pass every key of a batch to the model.
        self._plans = own_step is None
        #: Whether small steps are recorded as CUDA graphs, and the graphs of the last run, if there are any.
        self.records_graphs = (
            self._plans and self.padding_free and self.sparse_prediction and can_record(args, args.device)
        )
        self.graphs: StepGraphs | None = None
        if self.records_graphs:
            self.progress.warm_up = 2 * USUAL_SHAPES
        use_fast_dropout(model)
        stop_drawing_by_row(model)  # as another trainer may have asked for
        if args.dropout_by_example:
            self._use_dropout_by_row(model, tokenizer)
        choose_residual(model, args)
        unknown = "data_collator is your own, whose batches are not known" if own else None
        if args.dropout_by_example:
            unknown = "dropout_by_example draws noise that a compiled model does not"
        self.remove_callback(CompiledRegions)
        #: Compiles the model while it trains.
        self.compiled = CompiledRegions(self, self._evaluation_collator, unknown)
        self.add_callback(self.compiled)
        self.token_counter = TokenCounter()
        vars(self).pop("_body_parameters", None)  # of the model before

    def _freeze(self, model: Any) -> None:
        """Freeze what the config asks for, and, if there is anything left to warm up, the body in the first steps."""
        freeze(model, self.args.freeze, self.processing_class)
        self.remove_callback(HeadWarmUp)
        #: Trains only the head in the first steps; None if all steps train all.
        self.head_warmup: HeadWarmUp | None = None
        asked, missing = self.args.head_warmup_steps, missing_weights(model)
        if asked == "auto" and missing is None:
            raise ValueError(
                f"head_warmup_steps: received 'auto' with a {type(model).__name__} object, which does not tell whether "
                "its head is new. Accepted: a number of steps, below 1 a share of them. Pass 0.1 if its head is new, 0 "
                "if not, or the model's name instead of the object."
            )
        if asked if asked != "auto" else head_weights(missing or [], model):
            self.head_warmup = HeadWarmUp(model, asked, head_is_new=True)
            self.add_callback(self.head_warmup)

    def _use_dropout_by_row(self, model: Any, tokenizer: Any) -> None:
        if self._in_parts and self.args.gradient_checkpointing:
            raise ValueError(
                "dropout_by_example: received true with gradient_checkpointing, and batches that pass through "
                f"{type(model).__name__} in parts: a layer that is computed again would get another part's noise. "
                "Accepted: one of them. Leave gradient_checkpointing out."
            )
        use_dropout_by_row(model, self.padding_free, tokenizer)

    def refuse_what_was_set_later(self) -> None:
        """Raise ValueError for a value or a model that was set since, and would not be used."""
        if self.model_init is None:  # otherwise each run begins with a new model, for the values of then
            refuse_changed(self.args, self._used, self.model, self._used_model)

    def _longest_row(self) -> int:
        rows = [each for each in (self.train_dataset, self.eval_dataset) if each is not None]
        lengths = [longest_row(each) or self._max_length for each in rows]
        return max(lengths, default=self._max_length)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        # CompiledRegions compiles; accelerate would compile the whole model, whatever its environment says.
        return super()._build_accelerator_args(**kwargs) | {"dynamo_plugin": TorchDynamoPlugin(backend="no")}

    def _train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self.graphs = None
        if self.args.dropout_by_example:
            draw_by_row(self.model)
        try:
            return super()._train(*args, **kwargs)
        finally:
            stop_drawing_by_row(self.model)
            self.compiled.restore()
            self._free_graphs()
            if self.head_warmup is not None:
                self.head_warmup.restore()

    def _free_graphs(self) -> None:
        if self.graphs is not None:
            self.graphs.free()

    def why_not_splittable(self, num_items_in_batch: Any) -> str | None:
        """Return why a micro-batch cannot be split, or None if it can; a different loss may be a mean."""
        if self.compute_loss_func is not masked_lm_loss or not self._plans or num_items_in_batch is None:
            return "the losses of its parts may not add up to its own: the loss or the batch is not this library's"
        return super().why_not_splittable(num_items_in_batch)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute a micro-batch's loss and gradients, and count its tokens."""
        if "labels" not in inputs and self._own_loss is None:
            raise ValueError(
                f"data_collator: {type(self.data_collator).__name__} returned a batch with {', '.join(inputs)}. "
                "Accepted: a batch with labels, -100 where there is no loss. Leave data_collator out to mask here."
            )
        self.token_counter.add(inputs)
        inputs = {name: value for name, value in inputs.items() if name != FILLING}
        return super().training_step(model, inputs, num_items_in_batch)

    def passes(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """Run both passes of a micro-batch; a small one's are replayed if its shape was recorded."""
        usual = super().passes
        if self.micro_batch_parts > 1:  # memory is short, and parts have no shape of a bucket
            self._free_graphs()
            return usual(model, inputs, num_items_in_batch)
        if not self.records_graphs or not isinstance(num_items_in_batch, torch.Tensor):
            return usual(model, inputs, num_items_in_batch)
        if self.graphs is None:
            half = self.args.mixed_precision != "no"
            self.graphs = StepGraphs(model, lambda batch, count: usual(model, dict(batch), count), half=half)
        return self.graphs(inputs, num_items_in_batch)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return upstream's estimate, but count the model's parameters once: that walks through all its modules."""
        return 6 * int(inputs["input_ids"].numel()) * self._body_parameters

    @cached_property
    def _body_parameters(self) -> int:
        return int(cast(Any, self.model).num_parameters(exclude_embeddings=True))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch; with `sparse_prediction`, the head computes masked positions only."""
        if not return_outputs:
            return poison_nonfinite(self._loss(model, inputs, num_items_in_batch))
        return self._loss_of(model, without_mask(inputs), True, num_items_in_batch)

    def _loss(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> torch.Tensor:
        if self._in_parts:
            count = num_items_in_batch if num_items_in_batch is not None else labelled(inputs["labels"]).sum()
            # Only one pass goes through DistributedDataParallel, since at each of its passes the processes wait for
            # each other, and they may have different numbers of parts. The others go through the model inside it.
            first, *others = by_length(inputs)
            return sum(
                (self._loss_of(self.model, part, False, count) for part in others),
                start=self._loss_of(model, first, False, count),
            )
        return self._loss_of(model, without_mask(inputs), False, num_items_in_batch)

    def _loss_of(self, model: Any, inputs: dict[str, Any], return_outputs: bool, num_items_in_batch: Any) -> Any:
        positions = inputs.get(POSITIONS)
        inputs = {name: value for name, value in inputs.items() if name not in PLANNED}
        if not self.sparse_prediction:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if positions is None:  # the batch is not from get_train_dataloader
            positions = masked_positions(inputs["labels"])
        inputs["labels"] = inputs["labels"].flatten().index_select(0, positions).unsqueeze(0)  # (1, masked)
        with only_at(self.model, positions):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def collate_for_training(self) -> Any:
        """Return the collator of training batches; it adds what `compute_loss` would otherwise ask the device for."""
        if not self._plans or not (self.sparse_prediction or self._in_parts):
            return self.data_collator
        fill = None
        if self.records_graphs:
            pad = int(cast(Any, self.processing_class).pad_token_id)
            first = first_position(cast(Any, self.model))
            fill = partial(
                filled_up, longest=self._max_length, fill_id=pad, first_position=first, most_tokens=MOST_TOKENS
            )
        return Planned(self.data_collator, self.args.device.type, self._in_parts, fill)
