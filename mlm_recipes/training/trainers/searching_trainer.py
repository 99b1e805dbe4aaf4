"""`SearchingTrainer`: begins runs, and the trials of a hyperparameter search, with a new model each."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, cast

from transformers import PreTrainedModel, set_seed
from transformers.trainer_utils import TrainOutput

from ..checks.config_checks import check
from ..config import PLACE, MLMConfig, own_fields, refuse_unknown
from .resumable_trainer import ResumableTrainer

#: Values of ours that a trial may change; all others are used before it begins, or decide what is measured.
_PER_TRIAL = {
    *("mlm_probability", "mask_replace_prob", "random_replace_prob", "loss_on", "static_masks"),
    *("mlm_probability_schedule", "mlm_probability_end", "mlm_probability_boundaries"),
    *("padding", "pad_to_multiple_of", "padding_free", "sparse_prediction", "cuda_graphs", "bf16_residual"),
    *("torch_compile", "decay_bias_and_norm", "muon", "bf16", "on_nonfinite", "max_skipped_steps"),
    *("masking_policy", "mask_ngram"),
    *("freeze", "layerwise_lr_decay", "head_warmup_steps"),
}

#: Those of them that are lists, for which a number may be given.
_LISTS = ("mlm_probability_end", "mlm_probability_boundaries")


class SearchingTrainer(ResumableTrainer, ABC):
    """ResumableTrainer that calls `model_init` for each run and for each trial of a `hyperparameter_search`.

    A trial begins anew: with the config's values and its own, with a model that `model_init` makes after seeding with
    the trial's `seed`, and with what follows from these. A subclass chooses in `use_model` what depends on the model.
    """

    _first_model: PreTrainedModel | None = None
    _config_of_search: MLMConfig | None = None
    _trial_now: Any = None

    @abstractmethod
    def use_model(self, model: Any) -> None:
        """Prepare a new model, and what depends on it and on `args`."""

    def model_of_constructor(self, model: Any, model_init: Callable[..., Any] | None, args: MLMConfig) -> Any:
        """Return the constructor's `model`, or the first one that `model_init` makes; upstream gets the same one.

        Raises: ValueError unless exactly one of them is given.
        """
        if (model is None) == (model_init is None):
            raise ValueError(
                f"model: received {'None' if model is None else type(model).__name__} and model_init "
                f"{'None' if model_init is None else 'too'}. Accepted: one of them. Pass a model, or model_init: a "
                "function that returns a new one for each run."
            )
        self.model_init: Any = model_init
        if model_init is None:
            return model
        set_seed(args.seed)
        self._first_model = _model(super().call_model_init())
        return self._first_model

    def call_model_init(self, trial: Any = None) -> Any:
        """Return a new model for a run or a trial, prepared by `use_model`."""
        first, self._first_model = self._first_model, None
        if first is not None:  # upstream's constructor asks
            return first
        model = _model(super().call_model_init(trial))
        cast(Any, model).to(self.args.device)  # the fast paths are tried where the model will be
        self._train_batch_size = self.args.train_batch_size
        self._contract.forget()
        self.use_model(model)
        return model

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as ResumableTrainer does, or one trial of a search."""
        self._trial_now = trial
        if trial is not None:
            # Before anything depends on the values; upstream sets them after it has made the model.
            self.args = copy.copy(self._config_of_search or self.args)
            self._hp_search_setup(trial)
            check(self.args)
            resume_from_checkpoint = resume_from_checkpoint or False
        try:
            return super().train(resume_from_checkpoint, trial, *args, **kwargs)
        finally:
            self._trial_now = None

    def stop_now(self, model: Any, trial: Any = None) -> None:
        """Save the state, of a trial in its own folder, and raise Interrupted."""
        super().stop_now(model, self._trial_now if trial is None else trial)

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "minimize",
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Search as upstream's method does; by default, the objective is `eval_loss` alone, and it is minimised.

        Upstream's default adds up all other measures. Each trial's checkpoints are in `output_dir/run-NUMBER`.
        Afterwards `args` are the config's again, and the next `train()` begins with a new model.

        Raises: ValueError without `model_init` or an `eval_dataset`, for a value that a trial cannot change, and for a
        direction that does not fit the default objective.
        """
        if self.model_init is None:
            raise ValueError(
                "model_init: received None with hyperparameter_search. Accepted: a function that returns a new model, "
                "since each trial starts from one. Pass MLMTrainer(None, args, model_init=...)."
            )
        if self.eval_dataset is None:
            raise ValueError(
                "eval_dataset: received None with hyperparameter_search. Accepted: the text that trials are compared "
                "on. Pass eval_dataset."
            )
        if self.args.resume_from_checkpoint not in (None, False, "false"):
            raise ValueError(
                f"resume_from_checkpoint: received {self.args.resume_from_checkpoint!r} with hyperparameter_search. "
                "Accepted: None, since each trial is a run of its own. Leave it out."
            )
        if compute_objective is None and direction != "minimize":
            raise ValueError(
                f"direction: received {direction!r} without compute_objective. Accepted: 'minimize', since the "
                "objective is then eval_loss. Pass compute_objective, such as "
                "lambda metrics: metrics['eval_accuracy']."
            )
        self._config_of_search = self.args
        try:
            return super().hyperparameter_search(
                None if hp_space is None else lambda trial: self._as_they_are(_checked(hp_space(trial))),
                compute_objective or _loss,
                n_trials,
                direction,
                *args,
                **kwargs,
            )
        finally:
            self.hp_search_backend = None
            self.args, self._config_of_search = self._config_of_search, None
            self._train_batch_size = self.args.train_batch_size

    def _as_they_are(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return a trial's values such that upstream sets them; it makes each the type of the value in `args`.

        That fails for None, for a number in place of a list, and for `auto` in place of a number, so there is no value.
        """
        found = {
            name: [value] if name in _LISTS and isinstance(value, int | float) else value
            for name, value in values.items()
        }
        for name, value in found.items():
            if name in own_fields() and (value is None or value == "auto" or isinstance(value, list)):
                setattr(self.args, name, None)
        return found


def _model(made: Any) -> PreTrainedModel:
    if not isinstance(made, PreTrainedModel):
        raise ValueError(
            f"model_init: it returned {type(made).__name__}. Accepted: a model, such as "
            "lambda: load_model('mini', tokenizer). Return the model."
        )
    return made


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown(values, "hp_space: ")
    for name in values:
        if name in PLACE or name in own_fields().keys() - _PER_TRIAL:
            raise ValueError(
                f"hp_space: received {name}. Accepted: a value that is used while a trial trains, such as "
                f"learning_rate or mlm_probability; {name} would change nothing, or what is measured. Leave it out."
            )
    return values


def _loss(metrics: dict[str, float]) -> float:
    if "eval_loss" not in metrics:
        losses: Iterable[str] = sorted(name for name in metrics if name.endswith("_loss"))
        raise ValueError(
            f"compute_objective: received None with several data sets, which have {', '.join(losses)}. Accepted: a "
            f"function of the metrics. Pass compute_objective=lambda metrics: metrics[{next(iter(losses), '...')!r}]."
        )
    return metrics["eval_loss"]
