"""The best model of a run: which measure decides, which of its values is better, and where that checkpoint lies."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...checkpoints.value_kinds import METRIC_DRIVEN
from ...sources.names import did_you_mean
from ..checks.probe_checks import PROBE_ACCURACY

logger = logging.getLogger(__name__)

#: Whether a higher value is better, of each measure of an evaluation.
HIGHER_IS_BETTER = {"loss": False, "perplexity": False, "accuracy": True}

#: What else an evaluation returns; none of it says how good a model is.
NOT_MEASURES = ("masked_tokens", "model_preparation_time", "runtime", "samples_per_second", "steps_per_second")


def higher_is_better(metric: str) -> bool | None:
    """Return whether a higher value of a measure is better; None if its name does not tell.

    >>> [higher_is_better(name) for name in ("perplexity", "eval_accuracy", "eval_legal_loss", "f1")]
    [False, True, False, None]
    """
    return HIGHER_IS_BETTER.get(metric.rpartition("_")[2])


def logged_name(metric: str) -> str:
    """Return the name under which an evaluation during training returns `metric_for_best_model`.

    >>> logged_name("loss"), logged_name("eval_loss")
    ('eval_loss', 'eval_loss')
    """
    return metric if metric.startswith("eval_") else f"eval_{metric}"


def best_logged(state: TrainerState, name: str, higher: bool, first_step: int = 0) -> tuple[float, int] | None:
    """Return the best value logged under `name` from `first_step` on, and the step after which it was first reached.

    NaN, which differs from itself, does not count. None if nothing was logged.

    >>> state = TrainerState(log_history=[{"eval_loss": 2.5, "step": 0}, {"eval_loss": 3.0, "step": 4}])
    >>> best_logged(state, "eval_loss", higher=False), best_logged(state, "eval_loss", higher=False, first_step=1)
    ((2.5, 0), (3.0, 4))
    """
    logged = [(entry[name], int(entry["step"])) for entry in state.log_history if name in entry]
    found = [(value, step) for value, step in logged if step >= first_step and value == value]
    return (max if higher else min)(found, key=lambda each: each[0], default=None)


def has_evaluations(args: Any) -> bool:
    """Tell whether the model is evaluated during training; the strategy may still be a string."""
    return _plain(args.eval_strategy) not in (None, "no")


def check_asked(config: Any) -> None:
    """Raise ValueError if a config asks for what only evaluations during training can tell, without any.

    Sets the measure and its direction, where the config leaves them out.
    """
    _check_early_stopping(config)
    asked: dict[str, Any] = {
        "load_best_model_at_end": config.load_best_model_at_end,
        "save_strategy": _plain(config.save_strategy) == "best" and "best",
        "early_stopping_patience": config.early_stopping_patience,
        "metric_for_best_model": config.metric_for_best_model,
        "lr_scheduler_type": _plain(config.lr_scheduler_type) in METRIC_DRIVEN and _plain(config.lr_scheduler_type),
    }
    asked = {name: value for name, value in asked.items() if value}
    for name, value in asked.items():
        if not has_evaluations(config):
            raise ValueError(
                f"{name}: received {value!r} with eval_strategy 'no'. Accepted: eval_strategy epoch, or steps with "
                "eval_steps, since only an evaluation during training can tell which model is the best. Pass "
                f"--eval_strategy epoch, or leave {name} out."
            )
    evaluated, saved = _plain(config.eval_strategy), _plain(config.save_strategy)
    if config.load_best_model_at_end and saved not in (evaluated, "best"):
        raise ValueError(
            f"load_best_model_at_end: received True with eval_strategy {evaluated!r} and save_strategy {saved!r}. "
            f"Accepted: the same for both, or save_strategy best, since only a model that was saved can be loaded. "
            f"Pass --save_strategy {evaluated}."
        )
    if asked and config.metric_for_best_model is None:
        config.metric_for_best_model = "loss"
    if config.metric_for_best_model is not None and config.greater_is_better is None:
        config.greater_is_better = higher_is_better(config.metric_for_best_model)  # None: transformers decides


def _check_early_stopping(config: Any) -> None:
    patience, threshold = config.early_stopping_patience, config.early_stopping_threshold
    if patience is not None and patience < 1:
        raise ValueError(
            f"early_stopping_patience: received {patience}. Accepted: 1 or more evaluations, or no value. Try 3."
        )
    if not 0 <= threshold < math.inf:
        raise ValueError(
            f"early_stopping_threshold: received {threshold}. Accepted: 0 or more, in the unit of the measure. Leave "
            "it out for the default, 0."
        )
    if threshold and patience is None:
        raise ValueError(
            f"early_stopping_threshold: received {threshold} without early_stopping_patience. Accepted: both, since it "
            "says by how much an evaluation must improve to count. Pass --early_stopping_patience 3 too."
        )


def check_measure(args: Any, eval_dataset: Any = None, open_names: str | None = None) -> None:
    """Raise ValueError for a measure that no evaluation will return, or for its wrong direction.

    Args:
        args: an MLMConfig.
        eval_dataset: the evaluation data, perhaps several sets by name.
        open_names: what may return other measures than ours, such as `compute_metrics`; the first evaluation tells.
    """
    metric = args.metric_for_best_model
    if metric is None:
        return
    sets = [f"{name}_" for name in eval_dataset] if isinstance(eval_dataset, Mapping) else [""]
    ours = {f"{prefix}{name}": better for prefix in sets for name, better in HIGHER_IS_BETTER.items()}
    if args.probe:
        ours[PROBE_ACCURACY] = True
    known = ours.get(logged_name(metric).removeprefix("eval_"))
    if known is None and open_names is None:
        names = [f"eval_{name}" for name in ours] if sets != [""] else list(ours)
        several = ", since there are several evaluation sets" if sets != [""] else ""
        raise ValueError(
            f"metric_for_best_model: received {metric!r}.{did_you_mean(metric, names)} Accepted: {', '.join(names)}"
            f"{several}; MLMTrainer takes those of its compute_metrics too. Name one of them."
        )
    if known is None:
        highest = "highest" if args.greater_is_better else "lowest"
        logger.warning(
            "metric_for_best_model: %s is not one of this library's measures; the %s value counts as the best "
            "(greater_is_better %s).", metric, highest, args.greater_is_better,
        )  # fmt: skip
    elif args.greater_is_better is not known:
        better = f"a {'higher' if known else 'lower'} one is better"
        if open_names is None:
            raise ValueError(
                f"greater_is_better: received {args.greater_is_better} with metric_for_best_model {metric!r}. "
                f"Accepted: {known}, since of this measure {better}. Leave greater_is_better out."
            )
        logger.warning(
            "greater_is_better is %s with metric_for_best_model %s; of this library's measure of that name %s.",
            args.greater_is_better, metric, better,
        )  # fmt: skip


def check_data(args: Any, eval_dataset: Any) -> None:
    """Raise ValueError if there are to be evaluations during training, and no data for them."""
    if eval_dataset is not None:
        return
    for name, value in (("eval_strategy", _plain(args.eval_strategy)), ("eval_on_start", args.eval_on_start)):
        if value not in ("no", False):
            raise ValueError(
                f"eval_dataset: received None with {name} {value!r}. Accepted: a datasets.Dataset, a sequence of rows, "
                f"or a dict of these. Pass eval_dataset=..., or leave {name} out."
            )


def check_early_stopping_callbacks(args: Any, callbacks: Iterable[Any]) -> None:
    """Raise ValueError for an EarlyStoppingCallback in a run that never evaluates, or that has no measure."""
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback) and not (has_evaluations(args) and args.metric_for_best_model):
            raise ValueError(
                f"{type(callback).__name__}: received with eval_strategy {_plain(args.eval_strategy)!r} and "
                f"metric_for_best_model {args.metric_for_best_model!r}. Accepted: eval_strategy steps or epoch, and a "
                "measure such as loss. Pass both, or MLMConfig(early_stopping_patience=..., eval_strategy=...) instead "
                "of the callback."
            )


def missing_measure(metric: str, returned: Iterable[str]) -> str:
    """Return the error message for an evaluation without the measure that selects the best model.

    >>> print(missing_measure("f1", ["eval_loss", "eval_runtime", "epoch"]))
    metric_for_best_model: received 'f1', and the evaluation returned no eval_f1. Accepted: eval_loss. Name one of \
these, or let compute_metrics return it.
    """
    there = [name for name in returned if name.startswith("eval_") and not name.endswith(NOT_MEASURES)]
    return (
        f"metric_for_best_model: received {metric!r}, and the evaluation returned no {logged_name(metric)}. Accepted: "
        f"{', '.join(there)}. Name one of these, or let compute_metrics return it."
    )


def name_best(state: TrainerState, *folders: Path, being_saved: Path | None = None) -> None:
    """Record where the checkpoint of the best evaluation lies, if it is in one of `folders` or just being saved.

    transformers looks for it in the folder that it writes to, and only when it saves.
    """
    for folder in folders if state.best_global_step else ():
        place = folder / f"checkpoint-{state.best_global_step}"
        if place == being_saved or place.is_dir():
            state.best_model_checkpoint = str(place)
            return


class BestCheckpoint(TrainerCallback):
    """Find the best checkpoint of a resumed run, and say if the best model cannot be loaded because it was not saved.

    `beside` is the folder of the checkpoint that the run resumes from.
    """

    beside: Path | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Raise ValueError if the run ends before its first evaluation."""
        name_best(state, Path(str(args.output_dir)), *([self.beside] if self.beside else []))
        if args.metric_for_best_model is None or train_dataloader is None:
            return
        last, unit = float(state.max_steps), "steps"
        if _plain(args.eval_strategy) == "epoch":
            last, unit = last / math.ceil(len(train_dataloader) / args.gradient_accumulation_steps), "epochs"
        if args.eval_delay > last:
            raise ValueError(
                f"eval_delay: received {args.eval_delay:g} in a run of {last:g} {unit}, so that no evaluation tells "
                f"which model is the best by {args.metric_for_best_model}. Accepted: at most the run's length. Leave "
                "eval_delay out."
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say if the best evaluation was after a step that was not saved."""
        best, place = state.best_global_step, state.best_model_checkpoint
        if args.load_best_model_at_end and not best:
            logger.warning(
                "load_best_model_at_end: %s was not a number in any evaluation, so the model is the last one.",
                args.metric_for_best_model,
            )  # fmt: skip
        if not args.load_best_model_at_end or not best or (place or "").endswith(f"checkpoint-{best}"):
            return
        instead = f"{place}, the best one until then, is loaded" if place else "the model is the last one"
        logger.warning(
            "load_best_model_at_end: the best evaluation was after step %d, which was not saved; %s. Save as often as "
            "you evaluate (save_steps, eval_steps), or with save_strategy best.", best, instead,
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """Return the string of a strategy or a schedule, which may be an enumeration's."""
    return getattr(value, "value", value)
