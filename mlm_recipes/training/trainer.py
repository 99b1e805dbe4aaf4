"""`MLMTrainer`: transformers' Trainer with the loss of masked tokens and an evaluation that is exact."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PrinterCallback, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_utils import TrainOutput

from ..data.all_ids import check_ids, fingerprint
from ..data.id_limits import IdLimits
from ..data.prepared_rows import PreparedRows
from ..data.rows import has_column, has_labels, to_rows
from ..data.streams import RowStream, TextStream, TokenRow, rows_of
from ..data.tokenizer import load_or_train_tokenizer, load_tokenizer, vocabulary_fingerprint
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.random_keys import Floats
from ..masking.vocabulary import require_mask_token
from ..model.embeddings import embedding_rows
from ..model.fit import require_fit
from ..model.loading import load_model
from ..model.longer_positions import require_positions
from ..model.lora import base_fingerprint, has_adapter
from ..model.masked_lm_head import require_encoder, require_masked_lm_head
from ..model.positions import max_positions, usable_length
from .batches.informative_weights import informative_weights, needs_weights
from .batches.mixed_order import all_rows, check_mixed, own_rows, text_of
from .batches.places import check_prepared
from .callbacks.best_model import check_data, check_measure
from .callbacks.early_stopping import EarlyStopping
from .callbacks.progress import TrainingProgress
from .callbacks.trackers import refuse_missing
from .callbacks.user_metrics import check_user_metrics
from .checks.callback_checks import check_callbacks
from .checks.freezing_checks import refuse_own_optimizer
from .checks.overridden import refuse_never_called
from .checks.set_later import refuse_stream
from .config import MLMConfig, UnknownNameError
from .distributed.launcher import refuse_alone
from .distributed.processes import from_main
from .faults.one_run import only_run
from .inputs import (
    check_stream,
    collator_of_labelled,
    from_iterable,
    from_text,
    texts_of,
    token_rows,
)
from .optimization.adapters import add_adapter
from .optimization.new_tokens import extend, extend_loaded, new_tokens_first
from .optimization.optimizers import refuse_unusable
from .run_identity import masking_of, shape_of
from .speed.precision import refuse_fp16_on_cpu, warn_of_slow_bf16
from .trainers.optimizing_trainer import OptimizingTrainer

logger = logging.getLogger(__name__)


class MLMTrainer(OptimizingTrainer):
    """Train a masked-language model; Trainer and accelerate manage the loop, the devices and the optimizer.

    Args:
        model: a built-in name, a local folder, a hub id, or a model object (then a tokenizer is needed). With None,
            `model_init` makes one for each run: a function of nothing, or of the trial of a `hyperparameter_search`.
        args: an MLMConfig; by default one with default values. Its `corpus` and `model` are ignored, since only
            `train()` needs them.
        train_dataset, eval_dataset: a `datasets.Dataset` or a list with `text` (which is tokenized here), or any
            sequence of rows with `input_ids` and optionally `example_id`, by default the row's index. Rows with
            `labels` were masked beforehand: they are trained and evaluated on as they are. `train_dataset` may also be
            what `mix_rows` returns, or, with `max_steps`, a stream: a `TextStream`, or an IterableDataset of datasets
            or torch.
        data_collator: by default DataCollatorForMaskedLM with the values of `args`, and for the masking policy
            `informative` with weights that compare the training text with `args.general_corpus`. Evaluation always
            uses that one.
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

    #: Training rows, and the weights of their tokens.
    _weighted: tuple[Any, Floats] | None = None

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
        check_callbacks(kwargs.get("callbacks"))
        refuse_missing(args.report_to)
        refuse_never_called(type(self))
        refuse_own_optimizer(args, kwargs.get("optimizers"))
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
        check_mixed(train_dataset, args)
        check_prepared(train_dataset, args)
        if isinstance(model, str | Path):
            if processing_class is None:
                processing_class = load_or_train_tokenizer(model, texts_of(train_dataset), **args.vocabulary())
            require_mask_token(processing_class, "processing_class")
            set_seed(args.seed)  # for random weights, if the model has none
            name = str(model)
            model = load_model(name, processing_class, **args.start())
            processing_class = extend_loaded(args, model, processing_class, name).tokenizer
            add_adapter(args, model, processing_class, name)
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
            require_positions(model, args.extend_positions)
            require_fit(model, processing_class, elsewhere=elsewhere)
            if args.add_tokens and self.model_init is not None:
                raise ValueError(
                    "add_tokens: received words together with model_init. Accepted: words for a model, since each new "
                    "model would lack their rows. Let model_init return an enlarged model, and leave add_tokens out."
                )
            processing_class = extend(model, processing_class, args.add_tokens).tokenizer
        self._max_length = usable_length(args.max_length, model, args.default_length())
        self._limits = IdLimits("rows", ids=embedding_rows(model), positions=max_positions(model))
        self._how_to_rows = args.rows()
        eval_rows = self.as_token_rows(eval_dataset, processing_class, "eval_dataset")
        self._eval_rows = eval_rows
        check_data(args, eval_rows)
        check_measure(args, eval_rows, self.own_measures(kwargs.get("compute_metrics")))
        if isinstance(data_collator, DataCollatorForMaskedLM) and data_collator.tokenizer is not processing_class:
            require_fit(model, data_collator.tokenizer)
        train_dataset = self.as_token_rows(train_dataset, processing_class, "train_dataset")
        data_collator = collator_of_labelled(train_dataset, data_collator)
        self._own_collator = data_collator
        super().__init__(
            model=None if self.model_init is not None else model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_rows,
            processing_class=processing_class,
            **kwargs,
        )
        # Of these classes, only the one that Trainer has just added: another one is the caller's.
        shown = PrinterCallback if args.disable_tqdm else DEFAULT_PROGRESS_CALLBACK
        self.remove_callback([each for each in self.callback_handler.callbacks if type(each) is shown][-1])
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold))
        self._new_tokens = None
        if args.train_new_tokens_first is not None and train_dataset is not None:
            self._new_tokens = new_tokens_first(
                model, processing_class, cast(Any, args.add_tokens), args.train_new_tokens_first
            )
            self.add_callback(self._new_tokens)
        self.progress = TrainingProgress()
        self.add_callback(self.progress)
        self.use_model(model)
        self.say_what_evaluations_measure()

    def limits_of(self, rows: str) -> IdLimits:
        """Return the ids and the lengths that the model accepts; `rows` is the data set's name, for messages."""
        return replace(self._limits, rows=rows)

    def as_token_rows(self, rows: Any, tokenizer: Any, name: str) -> Any:
        """Return the rows of a data set; those to evaluate on are checked against the model's limits.

        Raises: ValueError as `mlm_recipes.training.inputs.token_rows`, and for rows beyond the limits.
        """
        found = token_rows(rows, name, lambda text: to_rows(text, tokenizer, self._max_length, **self._how_to_rows))
        # Evaluation reads all of its rows in any case; those to train on are checked where they are hashed.
        if name != "train_dataset" and found is not None:
            several = isinstance(found, dict)
            for key, part in found.items() if several else [(None, found)]:
                check_ids(part, self.limits_of(f"{name}[{key!r}]" if several else name))
        return found

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as EvaluatingTrainer does, on the `train_dataset` and with the `args` that the trainer has now.

        Raises: ValueError for what was set since and cannot be used (`mlm_recipes.training.checks.set_later`), and if
        another thread is training.
        """
        with only_run():
            self._use_rows_now()
            self.refuse_what_was_set_later()
            return super().train(*args, **kwargs)

    def _use_rows_now(self) -> None:
        rows: Any = self.train_dataset
        if rows is self._used_rows:
            return
        refuse_stream(rows, self._used_rows)
        check_mixed(rows, self.args)
        check_prepared(rows, self.args)
        self.train_dataset = self.as_token_rows(rows, self.processing_class, "train_dataset")
        self.use_model(self.model)  # the layout of its batches depends on the rows

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Return the training batches of the `train_dataset` that the trainer has now."""
        self._use_rows_now()
        return super().get_train_dataloader()

    def _train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            refuse_unusable(self.args)
        try:
            return super()._train(*args, **kwargs)
        finally:
            self.progress.close()

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute a micro-batch's loss and gradients; with `train_new_tokens_first`, those of new rows only."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._new_tokens is not None:
            self._new_tokens.remove_gradients()
        return loss

    def identity(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the interrupted one, besides the config's values."""
        rows = cast(Any, self.train_dataset)
        if isinstance(rows, TextStream):
            stream = rows  # for mypy, which does not narrow the type inside the lambda
            text = from_main(lambda: stream.facts(self.stream_rows))
        else:
            text = {"training text": text_of(rows, self.limits_of("train_dataset"))}
            if has_labels(rows):
                text["training labels"] = fingerprint(all_rows(rows), ids="labels")
            if has_column(all_rows(rows), "word_ids") and not isinstance(rows, PreparedRows):  # whose hash has all
                text["training words"] = fingerprint(all_rows(rows), ids="word_ids")
        # A number of tokens is a value of its own, the same for any number of processes.
        by_tokens = self.args.tokens_per_batch is not None
        batch = {} if by_tokens else {"global batch": self.get_total_train_batch_size(self.args)}
        # A checkpoint lacks these, and by now there may be others under the base's name.
        base = {"weights under the adapter": base_fingerprint(self.model)} if has_adapter(self.model) else {}
        return {
            **text,
            **batch,
            **base,
            "masking": masking_of(self.data_collator, self.args.probability_schedule()),
            "vocabulary": vocabulary_fingerprint(cast(Any, self.processing_class)),
            "model": shape_of(self.model),
        }

    def masking_values(self) -> dict[str, Any]:
        """Return the collator's arguments: those of the config, and the weights of the training rows if it needs them.

        Without training rows, or with the caller's collator, only evaluations are masked, which have a policy of their
        own.
        """
        values, rows = self.args.masking(), cast(Any, self.train_dataset)
        if not needs_weights(self.args):
            return values
        if rows is None or self._own_collator is not None:
            return self.args.evaluation_masking()
        if self._weighted is None or self._weighted[0] is not rows:

            def sample() -> Any:
                return self.stream_rows(rows.first()) if isinstance(rows, TextStream) else own_rows(rows)

            limits = self.limits_of("train_dataset")
            self._weighted = rows, informative_weights(sample, self.processing_class, self.args, limits)
        return values | {"token_weights": self._weighted[1]}

    def stream_rows(self, texts: list[str]) -> list[TokenRow]:
        """Return the rows of some of a stream's paragraphs."""
        if isinstance(self.train_dataset, RowStream):
            return cast(Any, texts)
        return rows_of(texts, self.processing_class, self._max_length, **self._how_to_rows)
