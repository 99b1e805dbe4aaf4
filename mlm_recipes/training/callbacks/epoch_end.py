"""The end of an epoch: the evaluation comes before the checkpoint, so that a resumed run has both or neither."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochEnd(TrainerCallback):
    """Put off what a step's end would save until the evaluation at the epoch's end, if the same step ends the epoch.

    transformers saves after the step (`save_strategy=steps`) and evaluates after the epoch (`eval_strategy=epoch`). Its
    checkpoint would know nothing of its own evaluation: neither that it is the best, nor what callbacks counted.

    `follows` tells whether the epoch ends with the step just taken.
    """

    follows = False
    _saves = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget an earlier run, which may have been interrupted."""
        self.follows = self._saves = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the checkpoint off."""
        stops = control.should_training_stop or control.should_epoch_stop
        self.follows = stops or float(state.epoch).is_integer()
        if self.follows and control.should_save and args.eval_strategy == "epoch":
            control.should_save, self._saves = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save after the evaluation."""
        control.should_save = control.should_save or self._saves
        self.follows = self._saves = False
