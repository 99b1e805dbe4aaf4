"""Experiment trackers (`report_to`), kept open from a run's first measurement to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    get_reporting_integration_callbacks,
)

from ...sources.missing_packages import needs
from ...sources.names import did_you_mean
from ..faults.tolerated_failures import NotMade

#: The package to install for a tracker, if its name differs.
_PACKAGES = {"comet_ml": "comet-ml"}

#: Trackers that are always or sometimes missing from transformers' list of installed ones; Trainer checks for these.
_NOT_LISTED = ("azure_ml", "flyte")

#: The events that `Trackers` calls itself, instead of Trainer.
_OURS_TO_CALL = ("on_train_begin", "on_train_end")


def refuse_missing(report_to: str | list[str] | None) -> None:
    """Raise ValueError for a tracker that transformers does not know, or whose package is not installed.

    `report_to` is the config's value, which TrainingArguments has turned into a list.

    >>> refuse_missing(["tensorbord"])
    Traceback (most recent call last):
    ...
    ValueError: report_to: received 'tensorbord'. Did you mean 'tensorboard'? Accepted: none, all, or one of azure_ml, \
clearml, codecarbon, comet_ml, dagshub, dvclive, flyte, kubeflow, mlflow, neptune, swanlab, tensorboard, trackio, wandb.
    """
    known = sorted(INTEGRATION_TO_CALLBACK)
    assert isinstance(report_to, list)
    for name in report_to:
        if name not in known:
            raise ValueError(
                f"report_to: received {name!r}.{did_you_mean(name, known)} Accepted: none, all, or one of "
                f"{', '.join(known)}."
            )
        if name not in [*get_available_reporting_integrations(), *_NOT_LISTED]:
            raise needs(
                f"report_to: {name!r}", [_PACKAGES.get(name, name)], "Accepted: none, or a tracker that is installed."
            )


class Trackers:
    """The trackers that a Trainer reports to, kept open within `with`, and what is logged besides Trainer's own logs.

    Trainer opens them when training begins and closes them when it ends (transformers 5.23). Measurements before that
    would be in another folder (TensorBoard), and those after it in a separate run (MLflow, Trackio). Here the trackers
    are opened before the first measurement and closed after the last. Without a tracker nothing happens.

    If a tracker cannot start, the run stops before any work. If one fails later (lost server, full disk), it gets no
    more events, and the failure is recorded in `not_made`.
    """

    def __init__(self, trainer: Trainer, not_made: NotMade) -> None:
        self._trainer = trainer
        self._not_made = not_made
        self._failed: set[TrainerCallback] = set()
        kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
        self._callbacks = [each for each in trainer.callback_handler.callbacks if isinstance(each, kinds)]

    def __enter__(self) -> Trackers:
        for callback in self._callbacks:
            try:
                self._call(callback, "on_train_begin")
            except Exception as error:  # every tracker has its own errors; the message names the tracker and its error
                raise ValueError(
                    f"report_to: {_name(callback)} could not start: {str(error).strip()} Accepted: a tracker "
                    "that is set up on this machine. Set it up as its message says, or leave report_to out."
                ) from error
            for event in filter(lambda name: name.startswith("on_"), dir(callback)):
                # Set on the object: Trainer calls this, `_call` the original method.
                setattr(callback, event, _held_back if event in _OURS_TO_CALL else self._told(callback, event))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for callback in self._callbacks:
            for event in [name for name in vars(callback) if name.startswith("on_")]:
                delattr(callback, event)
            if callback not in self._failed:
                with self._not_made.noting(f"{_name(callback)}'s last figures"):
                    self._call(callback, "on_train_end")

    def log(self, name: str, measured: Mapping[str, object]) -> None:
        """Log the figures of `measured` at the current step, as `eval/<name>/<figure>`.

        TensorBoard, Trackio and W&B show that name; MLflow, which does not change names, shows `eval_<name>/<figure>`.
        """
        if self._callbacks:
            self._trainer.log({f"eval_{name}/{figure}": value for figure, value in figures(measured).items()})

    def _told(self, callback: TrainerCallback, event: str) -> Callable[..., Any]:
        """Return a function that passes an event to a tracker, until the tracker fails once."""
        tell = getattr(callback, event)

        def told(*args: Any, **kwargs: Any) -> Any:
            control = None
            if callback not in self._failed:
                self._failed.add(callback)  # removed again if it does not fail
                with self._not_made.noting(f"the rest of {_name(callback)}'s figures"):
                    control = tell(*args, **kwargs)
                    self._failed.remove(callback)
            return control

        return told

    def _call(self, callback: TrainerCallback, event: str) -> None:
        trainer = self._trainer
        getattr(callback, event)(
            trainer.args,
            trainer.state,
            trainer.control,
            model=trainer.model,
            processing_class=trainer.processing_class,
        )


def figures(measured: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers among measures; those of a nested group get its name as a prefix.

    >>> figures({"loss": 2.0, "fill_mask": [], "general": {"loss": 3.0}})
    {'loss': 2.0, 'general/loss': 3.0}
    """
    found: dict[str, float] = {}
    for name, value in measured.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in figures(value).items()}
        elif isinstance(value, int | float):
            found[name] = value
    return found


def _name(callback: TrainerCallback) -> str:
    return type(callback).__name__


def _held_back(*args: Any, **kwargs: Any) -> None:
    """Do nothing; replaces an event that `Trackers` calls itself."""
