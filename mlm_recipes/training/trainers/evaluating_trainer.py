"""`EvaluatingTrainer`: an evaluation that is exact, on the same masked tokens each time."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers.trainer_utils import EvalLoopOutput

from ...evaluation.forward_passes import evaluate_examples, with_bar
from ...evaluation.metric import compute
from ...evaluation.token_results import TokenResults, evaluate_tokens
from ...masking.collator import DataCollatorForMaskedLM
from ..batches.loader_workers import end_workers
from ..callbacks.user_metrics import UserMetrics
from ..checks.overridden import overrides
from ..checks.probe_checks import PROBE_ACCURACY
from ..faults.stop_signals import depends_on_metrics
from .probing_trainer import ProbingTrainer

logger = logging.getLogger(__name__)


class EvaluatingTrainer(ProbingTrainer):
    """ProbingTrainer whose evaluations add up the loss of every masked token, and divide once."""

    #: The rows of token ids that the constructor made of `eval_dataset`, perhaps several sets by name.
    _eval_rows: Any

    @abstractmethod
    def as_token_rows(self, rows: Any, tokenizer: Any, name: str) -> Any:
        """Return the rows of token ids of a data set; `name` is the argument's, for messages."""

    def own_measures(self, compute_metrics: Any) -> str | None:
        """Return what may return other measures than this library's, or None."""
        if compute_metrics is not None:
            return "compute_metrics"
        methods = ("evaluate", "evaluation_loop", "_evaluate")
        return next((name for name in methods if overrides(type(self), EvaluatingTrainer, name)), None)

    def say_what_evaluations_measure(self) -> None:
        """Log which loss or collator of the caller's is only for training, and what evaluations measure instead."""
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
        if own and self.eval_dataset is not None and not overrides(type(self), EvaluatingTrainer, "evaluation_loop"):
            logger.warning(
                "Evaluations measure the cross-entropy of masked tokens, the same ones each time; %s is for training "
                "only. To evaluate otherwise, override get_eval_dataloader or evaluation_loop.", " and ".join(own),
            )  # fmt: skip

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader[Any]:
        """Return the evaluation batches, with frozen masks."""
        own: Any = self.eval_dataset
        rows = own if eval_dataset is None else own[eval_dataset] if isinstance(eval_dataset, str) else eval_dataset
        made = self._eval_rows.values() if isinstance(self._eval_rows, dict) else [self._eval_rows]
        if not any(rows is each for each in made):
            rows = self.as_token_rows(rows, self.processing_class, "eval_dataset")
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
        with self.whole_model(), self.accelerator.autocast():
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
            self.refuse_what_was_set_later()
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
            with self.whole_model(), self.compute_loss_context_manager(), torch.random.fork_rng(devices=[]):
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
        if self.selecting and metric_key_prefix == "eval":
            named |= {PROBE_ACCURACY: self.probe_accuracy()}
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
