"""`MLMTrainer`: transformers' Trainer with the loss of masked tokens and an evaluation that is exact."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import TorchDynamoPlugin, gather_object
from transformers import PreTrainedModel, PrinterCallback, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..data.id_limits import IdLimits
from ..data.rows import check_ids, fingerprint, has_labels, to_rows
from ..data.streams import RowStream, TextStream, TokenRow, rows_of
from ..data.tokenizer import load_or_train_tokenizer, load_tokenizer, vocabulary_fingerprint
from ..evaluation.forward_passes import evaluate_examples, with_bar
from ..evaluation.metric import compute
from ..evaluation.token_results import TokenResults, evaluate_tokens
from ..masking.batch_layout import PLANNED, labelled, without_mask
from ..masking.batch_plan import FILLING, POSITIONS, Planned, by_length, masked_positions
from ..masking.buckets import filled_up
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.vocabulary import require_mask_token
from ..model.dropout import use_fast_dropout
from ..model.embeddings import embedding_rows
from ..model.fit import require_fit
from ..model.loading import load_model
from ..model.loss import masked_lm_loss
from ..model.masked_lm_head import require_encoder, require_masked_lm_head
from ..model.positions import first_position, max_positions, usable_length
from ..model.sparse_prediction import only_at
from .best_model import check_data, check_measure
from .compiled_regions import CompiledRegions
from .config import MLMConfig, UnknownNameError
from .early_stopping import EarlyStopping
from .fast_paths import can_be_sparse, can_record, choose_layout, choose_residual
from .inputs import (
    check_stream,
    collator_of_labelled,
    from_iterable,
    from_text,
    longest_row,
    other_columns,
    texts_of,
    token_rows,
)
from .launcher import refuse_alone, sharding
from .loader_workers import end_workers
from .muon import muon_with_adamw
from .nonfinite import poison_nonfinite
from .optimizers import refuse_unusable
from .overridden import overrides, refuse_never_called
from .precision import refuse_failing_half, refuse_fp16_on_cpu, warn_of_slow_bf16
from .processes import from_main, several
from .progress import TrainingProgress
from .searching_trainer import SearchingTrainer
from .set_later import refuse_changed, refuse_stream, used_values
from .step_graphs import MOST_TOKENS, USUAL_SHAPES, StepGraphs
from .stop_signals import depends_on_metrics
from .token_counter import TokenCounter
from .trackers import refuse_missing
from .unused_parameters import UnusedParameters
from .user_metrics import UserMetrics, check_user_metrics

logger = logging.getLogger(__name__)

#: Entries of a model's config.json that do not describe its shape.
_NOT_SHAPE = {"architectures", "dtype", "id2label", "label2id", "transformers_version", "use_cache"}

#: Fields of a collator that do not affect its masks.
_NOT_MASKING = {"tokenizer", "padding", "max_length", "pad_to_multiple_of", "padding_free", "position_ids_start"}
_NOT_MASKING |= {"columns"}


class MLMTrainer(SearchingTrainer):
    """Train a masked-language model; Trainer and accelerate manage the loop, the devices and the optimizer.

    Args:
        model: a built-in name, a local folder, a hub id, or a model object (then a tokenizer is needed). With None,
            `model_init` makes one for each run: a function of nothing, or of the trial of a `hyperparameter_search`.
        args: an MLMConfig; by default one with default values. Its `corpus` and `model` are ignored, since only
            `train()` needs them.
        train_dataset, eval_dataset: a `datasets.Dataset` or a list with `text` (which is tokenized here), or any
            sequence of rows with `input_ids` and optionally `example_id`, by default the row's index. Rows with
            `labels` were masked beforehand: they are trained and evaluated on as they are. `train_dataset` may also be
            a stream, with `max_steps`: a `TextStream`, or an IterableDataset of datasets or torch.
        data_collator: by default DataCollatorForMaskedLM with the values of `args`. Evaluation always uses that one.
        processing_class: the tokenizer; by default `args.tokenizer`, the model's, or for random weights one trained on
            `train_dataset`.

    The constructor changes the model: its attention then accepts padding-free batches as well as padded ones, and
    faster layers for the CPU replace its dropout layers (`mlm_recipes.model.padding_free`,
    `mlm_recipes.model.dropout`).

    `evaluate()` masks the same tokens each time (`args.evaluation_seed`) and returns `eval_loss`, `eval_accuracy`,
    `eval_perplexity` and `eval_masked_tokens`. Each is computed from sums over all examples, divided once. Every row
    that is given counts, copies too; `load_corpus(...)["validation"]` has none. `compute_metrics` gets the ids that the
    model finds likeliest at masked positions, or what `preprocess_logits_for_metrics` makes of the logits there, and
    the true ids (`mlm_recipes.evaluation.predictions`).

    Raises: ValueError for arguments that conflict; a model object without a masked-language-modelling head; a tokenizer
    that does not fit the model (`mlm_recipes.model.fit`); text that is none; and rows of ids that the model has no
    embeddings or positions for: those of `eval_dataset` at once, those of `train_dataset` when training begins.

    >>> from mlm_recipes import MLMConfig, load_corpus
    >>> rows = load_corpus("meditations")["validation"]
    >>> trainer = MLMTrainer("mini", args=MLMConfig(max_steps=1, use_cpu=True, save_strategy="no"), train_dataset=rows)
    >>> trainer.train().global_step  # doctest: +ELLIPSIS
    epoch 1/1  step 1/1  loss ...
    1
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | None = None,
        args: MLMConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        if "tokenizer" in kwargs:
            raise UnknownNameError("tokenizer: no such argument. Write processing_class, as in transformers 5.")
        args = args if args is not None else MLMConfig()
        if not isinstance(args, MLMConfig):
            raise ValueError(
                f"args: received {type(args).__name__}. Accepted: MLMConfig, which has all fields of "
                "TrainingArguments. Change the class, and keep the arguments."
            )
        if args.push_to_hub:
            raise ValueError(
                "push_to_hub: received True. Accepted here: False, since upstream would upload incomplete files, and "
                "a pickle of its arguments that contains the token. Use mlm_recipes.train(push_to_hub=True), or upload "
                "the folder of save_model() with `hf upload`."
            )
        refuse_missing(args.report_to)
        refuse_never_called(type(self))
        check_user_metrics(args, kwargs.get("compute_metrics"), kwargs.get("preprocess_logits_for_metrics"))
        if args.n_gpu > 1:
            # DataParallel would multiply the loss by the number of GPUs, and is slower than one process per GPU.
            logger.warning("Training on one of %d GPUs; `accelerate launch -m mlm_recipes ...` uses all.", args.n_gpu)
            args = copy.copy(args)
            args._n_gpu = 1
        warn_of_slow_bf16(args)
        refuse_fp16_on_cpu(args)
        refuse_alone(args)
        model = self.model_of_constructor(model, kwargs.get("model_init"), args)
        train_dataset, args = from_iterable(from_text(train_dataset, "train_dataset"), args)
        check_stream(train_dataset, args)
        if isinstance(model, str | Path):
            if processing_class is None:
                processing_class = load_or_train_tokenizer(model, texts_of(train_dataset), **args.vocabulary())
            require_mask_token(processing_class, "processing_class")
            set_seed(args.seed)  # for random weights, if the model has none
            model = load_model(model, processing_class, **args.start())
        else:
            require_encoder(model)
            elsewhere = None
            if processing_class is None and args.tokenizer is not None:
                elsewhere = args.tokenizer
                processing_class = load_tokenizer(elsewhere, args.tokenizer_revision, args.trust_remote_code)
            if processing_class is None:
                raise ValueError(
                    "processing_class: received None with a model object. Accepted: the model's tokenizer. "
                    "Pass processing_class=tokenizer, or the model's name instead of the object."
                )
            require_mask_token(processing_class, "processing_class")
            require_masked_lm_head(model)
            require_fit(model, processing_class, elsewhere=elsewhere)
        self._max_length = usable_length(args.max_length, model)
        self._limits = IdLimits("rows", ids=embedding_rows(model), positions=max_positions(model))
        self._how_to_rows = args.rows()
        eval_rows = self._rows(eval_dataset, processing_class, "eval_dataset")
        self._eval_rows: Any = eval_rows
        check_data(args, eval_rows)
        check_measure(args, eval_rows, self._own_measures(kwargs.get("compute_metrics")))
        if isinstance(data_collator, DataCollatorForMaskedLM) and data_collator.tokenizer is not processing_class:
            require_fit(model, data_collator.tokenizer)
        train_dataset = self._rows(train_dataset, processing_class, "train_dataset")
        data_collator = collator_of_labelled(train_dataset, data_collator)
        self._own_collator = data_collator
        super().__init__(
            model=None if self.model_init is not None else model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_rows,
            processing_class=processing_class,
            compute_loss_func=kwargs.pop("compute_loss_func", masked_lm_loss),
            **kwargs,
        )
        # Of these classes, only the one that Trainer has just added: another one is the caller's.
        shown = PrinterCallback if args.disable_tqdm else DEFAULT_PROGRESS_CALLBACK
        self.remove_callback([each for each in self.callback_handler.callbacks if type(each) is shown][-1])
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold))
        #: Shows the progress of training on the terminal.
        self.progress = TrainingProgress()
        self.add_callback(self.progress)
        self.use_model(model)
        self._say_what_evaluates()

    def use_model(self, model: Any) -> None:
        """Choose the collators and the fast paths for a model, and change its layers accordingly."""
        args, tokenizer = self.args, cast(Any, self.processing_class)
        self._used, self._used_model, self._used_rows = used_values(args), model, self.train_dataset
        ours: Any = self._own_collator
        if not isinstance(ours, DataCollatorForMaskedLM):  # evaluation always uses the config's masking
            ours = DataCollatorForMaskedLM(tokenizer, max_length=self._max_length, **args.masking())
        columns = self.model_columns() - {"label", "label_ids"}
        ours = ours.changed(columns=columns)
        own = self._own_collator is not None and not isinstance(self._own_collator, DataCollatorForMaskedLM)
        self.data_collator: Any = self._own_collator if own else ours
        own_step = f"{type(self).__name__}.compute_loss" if overrides(type(self), MLMTrainer, "compute_loss") else None
        self._own_loss = own_step or ("compute_loss_func" if self.compute_loss_func is not masked_lm_loss else None)
        parted = isinstance(self.data_collator, DataCollatorForMaskedLM) and self._own_loss is None
        sharded = sharding(self.accelerator, args)
        self.remove_callback(UnusedParameters)
        if several() and sharded is None:
            unused = UnusedParameters(model, tokenizer, args.ddp_find_unused_parameters)
            self.accelerator.ddp_handler.find_unused_parameters = unused.search
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
        choose_residual(model, args)
        unknown = "data_collator is your own, whose batches are not known" if own else None
        self.remove_callback(CompiledRegions)
        #: Compiles the model while it trains.
        self.compiled = CompiledRegions(self, self._evaluation_collator, unknown)
        self.add_callback(self.compiled)
        self.token_counter = TokenCounter()
        vars(self).pop("_body_parameters", None)  # of the model before

    def _own_measures(self, compute_metrics: Any) -> str | None:
        """Return what may return other measures than this library's, or None."""
        if compute_metrics is not None:
            return "compute_metrics"
        methods = ("evaluate", "evaluation_loop", "_evaluate")
        return next((name for name in methods if overrides(type(self), MLMTrainer, name)), None)

    def _say_what_evaluates(self) -> None:
        """Say what of the caller's trains, and is not what evaluations measure."""
        own = [self._own_loss] if self._own_loss else []
        if not self._plans and self.args.gradient_accumulation_steps > 1:
            logger.warning(
                "gradient_accumulation_steps %d: a step adds up what %s returns for each micro-batch. Return a sum "
                "divided by num_items_in_batch, or divide a mean by %d.",
                self.args.gradient_accumulation_steps, self._own_loss, self.args.gradient_accumulation_steps,
            )  # fmt: skip
        collator: Any = self.data_collator
        if not isinstance(collator, DataCollatorForMaskedLM):
            own.append(f"your data_collator ({getattr(collator, '__name__', type(collator).__name__)})")
        if own and self.eval_dataset is not None and not overrides(type(self), MLMTrainer, "evaluation_loop"):
            logger.warning(
                "Evaluations measure the cross-entropy of masked tokens, the same ones each time; %s is for training "
                "only. To evaluate otherwise, override get_eval_dataloader or evaluation_loop.", " and ".join(own),
            )  # fmt: skip

    def _longest_row(self) -> int:
        rows = [each for each in (self.train_dataset, self.eval_dataset) if each is not None]
        lengths = [longest_row(each) or self._max_length for each in rows]
        return max(lengths, default=self._max_length)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        # CompiledRegions compiles; accelerate would compile the whole model, whatever its environment says.
        return super()._build_accelerator_args(**kwargs) | {"dynamo_plugin": TorchDynamoPlugin(backend="no")}

    def limits_of(self, rows: str) -> IdLimits:
        """Return the ids and the lengths that the model accepts; `rows` is the data set's name, for messages."""
        return replace(self._limits, rows=rows)

    def _rows(self, rows: Any, tokenizer: Any, name: str) -> Any:
        found = token_rows(rows, name, lambda text: to_rows(text, tokenizer, self._max_length, **self._how_to_rows))
        # Evaluation reads all of its rows in any case; those to train on are checked where they are hashed.
        if name != "train_dataset" and found is not None:
            several = isinstance(found, dict)
            for key, part in found.items() if several else [(None, found)]:
                check_ids(part, self.limits_of(f"{name}[{key!r}]" if several else name))
        return found

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as SearchingTrainer does, on the `train_dataset` and with the `args` that the trainer has now.

        Raises: ValueError for what was set since and cannot be used (`mlm_recipes.training.set_later`).
        """
        self._use_rows_now()
        self._refuse_changed()
        return super().train(*args, **kwargs)

    def _refuse_changed(self) -> None:
        if self.model_init is None:  # otherwise each run begins with a new model, for the values of then
            refuse_changed(self.args, self._used, self.model, self._used_model)

    def _use_rows_now(self) -> None:
        rows: Any = self.train_dataset
        if rows is self._used_rows:
            return
        refuse_stream(rows, self._used_rows)
        self.train_dataset = self._rows(rows, self.processing_class, "train_dataset")
        self.use_model(self.model)  # the layout of its batches depends on the rows

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Return the training batches of the `train_dataset` that the trainer has now."""
        self._use_rows_now()
        return super().get_train_dataloader()

    def _train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            refuse_unusable(self.args)
        self.graphs = None
        try:
            return super()._train(*args, **kwargs)
        finally:
            self.progress.close()
            self.compiled.restore()
            self._free_graphs()

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

    def identity(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the interrupted one, besides the config's values."""
        collator, model, rows = self.data_collator, cast(Any, self.model), cast(Any, self.train_dataset)
        if isinstance(rows, TextStream):
            stream = rows  # for mypy, which does not narrow the type inside the lambda
            text = from_main(lambda: stream.facts(self.stream_rows))
        else:
            text = {"training text": f"{len(rows)} rows, {fingerprint(rows, limits=self.limits_of('train_dataset'))}"}
            if has_labels(rows):
                text["training labels"] = fingerprint(rows, ids="labels")
        masking: Any = type(collator).__name__
        if isinstance(collator, DataCollatorForMaskedLM):
            rule = {item.name: getattr(collator, item.name) for item in fields(collator)}
            masking = {name: value for name, value in rule.items() if name not in _NOT_MASKING}
            masking["seed"] = collator.seed or 0  # what None means for rows that name their epoch
            masking |= {"collator": _lasting_name(type(collator))}
        shape = {
            name: value
            for name, value in model.config.to_dict().items()
            if not name.startswith("_") and not name.endswith("_token_id") and name not in _NOT_SHAPE
        }
        return text | {
            "global batch": self.get_total_train_batch_size(self.args),
            "masking": masking,
            "vocabulary": vocabulary_fingerprint(cast(Any, self.processing_class)),
            "model": shape | {"class": type(model).__name__, "parameters": model.num_parameters()},
        }

    def stream_rows(self, texts: list[str]) -> list[TokenRow]:
        """Return the rows of some of a stream's paragraphs."""
        if isinstance(self.train_dataset, RowStream):
            return cast(Any, texts)
        return rows_of(texts, self.processing_class, self._max_length, **self._how_to_rows)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the optimizer, and store its values, since those in a checkpoint would replace them."""
        if self.args.muon and self.optimizer is None:
            model = self.model if model is None else model
            self.optimizer = muon_with_adamw(
                model,
                self.get_decay_parameter_names(model),
                self.args.weight_decay,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                fused=self.args.optim == "adamw_torch_fused",
                dtype=torch.bfloat16 if self.args.bf16 else torch.float32,
            )
        optimizer = super().create_optimizer(model)
        self._contract.optimizer_groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return optimizer

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Return the parameters that weight decay applies to: all with `decay_bias_and_norm`, or upstream's."""
        if self.args.decay_bias_and_norm:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader[Any]:
        """Return the evaluation batches, with frozen masks."""
        own: Any = self.eval_dataset
        rows = own if eval_dataset is None else own[eval_dataset] if isinstance(eval_dataset, str) else eval_dataset
        made = self._eval_rows.values() if isinstance(self._eval_rows, dict) else [self._eval_rows]
        if not any(rows is each for each in made):
            rows = self._rows(rows, self.processing_class, "eval_dataset")
        # Upstream keeps a loader with persistent workers, and would return that of other rows again.
        vars(self).pop("_eval_dataloaders", None)
        training_collator, self.data_collator = self.data_collator, self._evaluation_collator
        try:
            loader = super().get_eval_dataloader(rows)
        finally:
            self.data_collator = training_collator
        loader.worker_init_fn = self._signals.in_workers
        return loader

    def token_results(self, rows: Any, draw: int = 0) -> TokenResults:
        """Evaluate `rows` of token ids with one draw of the frozen masks; return the result of each masked token.

        Every process returns the results of all processes, in the order of the rows. Nothing is logged, and no
        callback is called.
        """
        with self.accelerator.autocast():
            mine = evaluate_tokens(
                self.model,
                rows,
                self._evaluation_collator.frozen(self.args.evaluation_seed, draw),
                self.args.per_device_eval_batch_size,
                self.sparse_prediction,
                self.accelerator.process_index,
                self.accelerator.num_processes,
                bar=not self.args.disable_tqdm,
            )
        return TokenResults.of(gather_object([mine]))

    def get_test_dataloader(self, test_dataset: Any) -> torch.utils.data.DataLoader[Any]:
        """Return the batches of `predict`, with frozen masks."""
        return self.get_eval_dataloader(test_dataset)

    def evaluation_loop(
        self,
        dataloader: torch.utils.data.DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Return measures from sums over all examples, divided once; upstream returns a mean of batch means.

        With `compute_metrics`, and for `predict`, it also returns what is predicted at masked positions: the ids of the
        likeliest tokens, shape `(masked,)`, or what `preprocess_logits_for_metrics` makes of the logits; and the true
        ids. The model stays in evaluation mode until the next training step, as upstream leaves it.
        """
        if not self.is_in_train:
            self._refuse_changed()
        # This uses the bare model. If accelerate prepared it here, a later train() would have no DDP wrapper
        # (upstream's evaluate() does that, and the processes' weights then silently diverge).
        # The generator is forked, because a loader draws a seed for its workers, and evaluating must not change what
        # training draws next.
        stoppable = self.is_in_train and not depends_on_metrics(self.args)
        batches: Any = with_bar(dataloader, "Evaluating", "batch", wanted=not self.args.disable_tqdm)
        batches = self._signals.until_stopped(batches) if stoppable else batches
        to_predict = description == "Prediction"  # as upstream's predict() calls it
        user = None
        if self.compute_metrics is not None or to_predict:
            keep = self.preprocess_logits_for_metrics
            user = UserMetrics(self.args, self.compute_metrics, keep, self.accelerator, keeps=to_predict)
        cast(Any, self.model).eval()
        optimizer: Any = self.optimizer
        if hasattr(optimizer, "eval"):  # one that evaluates with averaged weights
            optimizer.eval()
        self.callback_handler.eval_dataloader = dataloader
        try:
            with self.compute_loss_context_manager(), torch.random.fork_rng(devices=[]):
                sums = evaluate_examples(
                    self.model,
                    self._announced(batches),
                    self.accelerator.gather_for_metrics,
                    self.sparse_prediction,
                    None if user is None else user.predictions,
                )
        finally:
            end_workers(dataloader)
        if stoppable and self._signals.received:
            self.stop_now(self.model_wrapped)  # the measures so far are incomplete
        named = compute(sums)
        predictions, labels = np.empty(0), None
        if user is not None:
            kept = user.predictions.joined()
            predictions, labels = kept.predictions, kept.labels
            named |= user.result(kept) | {"loss": named["loss"]}  # upstream's own loss counts too
        named = {_prefixed(name, metric_key_prefix): value for name, value in named.items()}
        examples = self.num_examples(dataloader)
        return EvalLoopOutput(predictions=predictions, label_ids=labels, metrics=named, num_samples=examples)

    def _announced(self, batches: Any) -> Iterator[Any]:
        """Yield each batch on the model's device, and tell the callbacks when it is done."""
        for batch in batches:
            if "labels" not in batch:
                raise ValueError(
                    f"get_eval_dataloader: received a batch with {', '.join(batch)}. Accepted: a batch with labels, "
                    "-100 where nothing is masked. Let its collator add them."
                )
            yield self._prepare_inputs(batch)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)


def _prefixed(name: str, prefix: str) -> str:
    """Return a measure's name with its prefix, which a caller's own may have already.

    >>> _prefixed("loss", "eval"), _prefixed("eval_f1", "eval")
    ('eval_loss', 'eval_f1')
    """
    return name if name.startswith(f"{prefix}_") else f"{prefix}_{name}"


def _lasting_name(kind: type) -> str:
    """Return a class's name for the resume contract: ours by its public name, whichever module it is in.

    >>> _lasting_name(DataCollatorForMaskedLM)
    'mlm_recipes.DataCollatorForMaskedLM'
    """
    return f"{'mlm_recipes' if kind is DataCollatorForMaskedLM else kind.__module__}.{kind.__qualname__}"
