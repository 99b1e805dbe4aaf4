"""Early stopping (`early_stopping_patience`): the count survives a resume, and the result says why the run stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from ...metrics_file import BestModel, StoppedEarly
from ...report.wording import stopped_early
from .best_model import best_logged, logged_name

logger = logging.getLogger(__name__)


class EarlyStopping(EarlyStoppingCallback):
    """transformers' callback; with several evaluation sets it follows the one whose measure decides."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the count of an earlier run in the same process."""
        if not state.global_step:
            self.early_stopping_patience_counter = 0
        super().on_train_begin(args, state, control, **kwargs)

    def on_evaluate(  # type: ignore[override]  # as upstream's
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Count the evaluations without an improvement, and stop the run if there were too many."""
        if logged_name(str(args.metric_for_best_model)) in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say that the run was stopped, and why."""
        found = why_stopped([self], args, state)
        if found is not None and state.is_world_process_zero:
            logger.warning(stopped_early(found))


def why_stopped(callbacks: Iterable[Any], args: Any, state: TrainerState) -> StoppedEarly | None:
    """Return why a finished run was stopped early, or None if it was not."""
    best = best_evaluation(args, state)
    counts = [each.early_stopping_patience_counter for each in callbacks if _has_stopped(each)]
    if not counts or best is None or state.global_step >= state.max_steps:
        return None
    return {
        "step": state.global_step,
        "of": state.max_steps,
        "metric": best["metric"],
        "best": best["value"],
        "best_step": best["step"],
        "evaluations_since": max(counts),
    }


def best_evaluation(args: Any, state: TrainerState) -> BestModel | None:
    """Return the best evaluation of a run by `metric_for_best_model`, or None if nothing was measured by that."""
    if args.metric_for_best_model is None:
        return None
    name = logged_name(args.metric_for_best_model)
    # What `eval_on_start` measures is logged as step 0; transformers does not count it as a model to keep.
    best = best_logged(state, name, args.greater_is_better, first_step=1)
    if best is None:
        return None
    value, step = best
    at = f"checkpoint-{step}"
    loaded = bool(args.load_best_model_at_end and (state.best_model_checkpoint or "").endswith(at))
    return {"metric": name.removeprefix("eval_"), "value": value, "step": step, "loaded": loaded}


def had_stopped(checkpoint: Path, callbacks: Iterable[Any]) -> bool:
    """Tell whether the run had stopped early when a checkpoint was saved, by the patience of these callbacks."""
    saved = json.loads((checkpoint / "trainer_state.json").read_text("utf-8")).get("stateful_callbacks") or {}
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            states = saved.get(type(callback).__name__) or []
            for state in states if isinstance(states, list) else [states]:
                count = (state.get("attributes") or {}).get("early_stopping_patience_counter", 0)
                if count >= callback.early_stopping_patience:
                    return True
    return False


def start_anew(args: Any, state: TrainerState, callbacks: Iterable[Any]) -> None:
    """Let another measure decide from now on: find its best evaluation so far, and count from zero how long ago it was.

    The values that a checkpoint restores are those of the measure of before, and not to be compared with this one's.
    """
    best = best_evaluation(args, state)
    state.best_metric, state.best_global_step = (None, None) if best is None else (best["value"], best["step"])
    state.best_model_checkpoint = None  # found by BestCheckpoint, if it was saved
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            callback.early_stopping_patience_counter = 0


def _has_stopped(callback: Any) -> bool:
    stops = isinstance(callback, EarlyStoppingCallback)
    return stops and callback.early_stopping_patience_counter >= callback.early_stopping_patience
