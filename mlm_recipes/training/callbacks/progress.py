"""Progress during training: the epoch, a bar, the loss, and a line for each evaluation."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...report.printing import say
from ...report.wording import how_long
from .best_model import NOT_MEASURES, best_logged, logged_name

#: The run's duration is estimated from this many steps, after those that warm up.
_TOLD_FROM = 3


class TrainingProgress(TrainerCallback):
    """A bar with the epoch before it and the loss after it; without a terminal, about twenty plain lines.

    After a few steps it prints how long the run will take, unless `told` says that this was printed before. With
    `disable_tqdm` it shows none of this. Each evaluation gets a line in any case, unless `log_level` is error or
    critical, and its loss is shown in the bar.
    """

    told = False

    #: The number of steps at the beginning that take longer than the others.
    warm_up = 1

    def __init__(self) -> None:
        self._bar: Any = None
        self._loss: float | None = None
        self._evaluated: dict[str, str] = {}  # the last evaluation's loss, as the bar shows it
        self._trains = self._shows_steps = False
        self._started = 0.0
        self._first = 0  # the step that training began at; more than 0 in a resumed run
        self._warm = 0.0  # when the last step of the warm-up was taken

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        self._trains, self._shows_steps = True, state.is_world_process_zero and not args.disable_tqdm
        self._started = time.monotonic()
        self._first = state.global_step
        self._loss, self._evaluated = None, {}
        if state.is_world_process_zero and sys.stderr.isatty() and not args.disable_tqdm:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    # Trainer logs after on_step_end, so a step's loss is shown when the next one begins.
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the progress so far."""
        counted = state.global_step - self._first - self.warm_up
        if counted == 0:
            self._warm = time.monotonic()
        if not self.told and self._shows_steps and counted == _TOLD_FROM:
            self._tell_time(state.max_steps - self._first)
        self._show(state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show an evaluation during training, and the best one so far."""
        if not self._trains or not state.is_world_process_zero:
            return
        prefix = _prefix_of(metrics or {})
        shown = {
            name.removeprefix(f"{prefix}_"): _written(name, value)
            for name, value in (metrics or {}).items()
            if name.startswith(f"{prefix}_") and isinstance(value, int | float) and not name.endswith(NOT_MEASURES)
        }
        if "loss" in shown:
            self._evaluated |= {f"{prefix}_loss": shown["loss"]}
        if args.log_level in ("error", "critical"):
            return
        where = f"epoch {_epoch(state)}/{_epochs(state)}  step {state.global_step}/{state.max_steps}"
        what = "  ".join(f"{name} {value}" for name, value in shown.items())
        data = prefix.removeprefix("eval").lstrip("_")
        best = _best_so_far(args, state, prefix, metrics or {})
        self._print(f"evaluation{f' of {data}' if data else ''}: {where}  {what}{best}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the last step and close the bar."""
        self._show(state)
        self._trains = False
        self.close()

    def close(self) -> None:
        """Close the bar, also if training was interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _tell_time(self, steps: int) -> None:
        self._print(how_long(steps, (time.monotonic() - self._warm) / _TOLD_FROM))

    def _print(self, text: str) -> None:
        if self._bar is None:
            say(text)
            return
        try:
            self._bar.write(text)  # above the bar
        except OSError:  # the terminal was closed, but the run continues
            self._bar.disable, self._bar = True, None

    def _show(self, state: TrainerState) -> None:
        step, total = state.global_step, state.max_steps
        if not self._shows_steps or step == self._first:
            return
        epochs, epoch = _epochs(state), _epoch(state)
        loss = "not logged yet" if self._loss is None else f"{self._loss:.3f}"
        if self._bar is not None:
            try:
                self._bar.set_description(f"Epoch {epoch}/{epochs}", refresh=False)
                self._bar.set_postfix({"loss": loss} | self._evaluated, refresh=False)
                self._bar.update(step - self._bar.n)
            except OSError:  # the terminal was closed, but the run continues
                self._bar.disable, self._bar = True, None
        elif step == total or step % max(1, total // 20) == 0:
            rate = (step - self._first) / max(1e-9, time.monotonic() - self._started)
            say(f"epoch {epoch}/{epochs}  step {step}/{total}  loss {loss}  {rate:.2f} it/s")


def _epochs(state: TrainerState) -> int:
    return max(1, math.ceil(state.num_train_epochs))


def _epoch(state: TrainerState) -> int:
    """Return the number of the epoch of the step just taken, from 1."""
    return max(1, math.ceil((state.epoch or 0) - 1e-9))


def _prefix_of(metrics: dict[str, Any]) -> str:
    """Return what an evaluation's names begin with: `eval`, or `eval_NAME` for one of several data sets.

    >>> _prefix_of({"eval_legal_loss": 2.0, "eval_legal_samples_per_second": 9.0})
    'eval_legal'
    """
    end = "_samples_per_second"  # which Trainer adds to every evaluation
    return next((name.removesuffix(end) for name in metrics if name.endswith(end)), "eval")


def _written(name: str, value: float) -> str:
    """Return a measure as people write it.

    >>> _written("eval_accuracy", 0.1234), _written("eval_perplexity", 116.884), _written("eval_f1", 0.51239)
    ('12.3%', '116.88', '0.5124')
    """
    forms = {"loss": ".3f", "perplexity": ".2f" if abs(value) < 1e6 else ".3g", "accuracy": ".1%"}
    return f"{value:{forms.get(name.rpartition('_')[2], '.4g')}}"


def _best_so_far(args: TrainingArguments, state: TrainerState, prefix: str, metrics: dict[str, Any]) -> str:
    """Return whether an evaluation is the best so far, or which one is, by `metric_for_best_model` or by its loss."""
    name, higher = f"{prefix}_loss", False
    if args.metric_for_best_model is not None:
        name, higher = logged_name(args.metric_for_best_model), bool(args.greater_is_better)
    best = best_logged(state, name, higher)
    if name not in metrics or best is None:
        return ""  # another data set decides
    value, step = best
    if step == state.global_step:
        return "  (the best so far)"
    return f"  (the best so far: {_written(name, value)} after step {step})"
