"""Experiment trackers (`report_to`): open from the first measure of a run to the last."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    get_reporting_integration_callbacks,
)

from .sources import did_you_mean

#: What to install for a tracker, where it is not called as the tracker is.
_PACKAGES = {"comet_ml": "comet-ml"}

#: Trackers that transformers' list of the installed ones leaves out, always or sometimes; Trainer looks for these.
_NOT_LISTED = ("azure_ml", "flyte")

#: The events that `Trackers` brings about itself, in Trainer's place.
_OURS_TO_CALL = ("on_train_begin", "on_train_end")


def refuse_missing(report_to: str | list[str] | None) -> None:
    """Raise ValueError for a tracker that transformers does not know, or whose package is not installed.

    `report_to` is a config's value; TrainingArguments has made a list of it.

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
            raise ValueError(
                f"report_to: received {name!r}, which is not installed here. Accepted: none, or a tracker that is. "
                f"Install it (pip install {_PACKAGES.get(name, name)}), or leave report_to out."
            )


class Trackers:
    """The trackers that a Trainer reports to, kept open while `with` lasts, and what is logged beside Trainer's own.

    Trainer opens them when training begins and closes them when it ends (transformers 5.23): what is measured before
    would lie in another folder (TensorBoard), what is measured after in a run of its own (MLflow, Trackio). Here they
    open before the one and close after the other. Without a tracker nothing happens.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
        self._callbacks = [each for each in trainer.callback_handler.callbacks if isinstance(each, kinds)]

    def __enter__(self) -> Trackers:
        for callback in self._callbacks:
            try:
                self._call(callback, "on_train_begin")
            except Exception as error:  # each has its own; people see which it was, and what it says
                raise ValueError(
                    f"report_to: {type(callback).__name__} could not begin: {str(error).strip()} Accepted: a tracker "
                    "that is set up on this machine. Set it up as it says, or leave report_to out."
                ) from error
            for event in _OURS_TO_CALL:
                setattr(callback, event, _held_back)  # on the object: Trainer's call comes here, ours to the method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for callback in self._callbacks:
            for event in _OURS_TO_CALL:
                delattr(callback, event)
            self._call(callback, "on_train_end")

    def log(self, name: str, measured: Mapping[str, Any]) -> None:
        """Log the figures of `measured` at the step where training stands, as `eval/<name>/<figure>`.

        That is how TensorBoard, Trackio and W&B have it; MLflow, which takes names as they are: `eval_<name>/<figure>`.
        """
        if self._callbacks:
            self._trainer.log({f"eval_{name}/{figure}": value for figure, value in figures(measured).items()})

    def _call(self, callback: TrainerCallback, event: str) -> None:
        trainer = self._trainer
        getattr(callback, event)(
            trainer.args,
            trainer.state,
            trainer.control,
            model=trainer.model,
            processing_class=trainer.processing_class,
        )


def figures(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among measures, those of a group within them with its name before theirs.

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


def _held_back(*args: Any, **kwargs: Any) -> None:
    """Do nothing: in the place of an event that `Trackers` brings about itself."""
