"""A stop that a callback asks for with `control.should_training_stop`: in all processes, and with a checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..distributed.processes import highest, several


class AskedStop(TrainerCallback):
    """Let a run that a callback stops end as one that reaches its last step: it saves what `save_strategy` asks for.

    transformers saves the last step of a run with `save_strategy=steps`, but not the one after which a callback stops
    it (5.23): such a run could only be begun again.
    """

    _saved_at: int | None = None
    #: Whether an end of the run, and of its epoch, is due after the next step.
    _later, _epoch_later = False, False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget an earlier run."""
        self._saved_at, self._later, self._epoch_later = None, False, False

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep what was asked within a step until its end: the others wait for this process's gradients."""
        if several():
            self._later = self._later or control.should_training_stop
            self._epoch_later = self._epoch_later or control.should_epoch_stop
            control.should_training_stop, control.should_epoch_stop = False, False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for what was asked too late after the step before."""
        control.should_training_stop = control.should_training_stop or self._later
        control.should_epoch_stop = control.should_epoch_stop or self._epoch_later
        self._epoch_later = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note that this step is saved."""
        self._saved_at = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save the step after which the run stops."""
        if control.should_training_stop and args.save_strategy == "steps":
            control.should_save = control.should_save or self._saved_at != state.global_step

    def leave_together(self, control: TrainerControl, agreed: bool, evaluated: bool) -> None:
        """After all events of a step, let all processes leave the loop, or none.

        Args:
            control: may ask for a stop in some processes only.
            agreed: whether all know that the run ends after this step.
            evaluated: whether the step was evaluated. Then they agree now, since it is the evaluation that stops a run
                early; otherwise at the end of the next step, since every step would have to wait for a second answer.
        """
        if agreed or not several():
            return
        if evaluated:
            stop, epoch = highest(int(control.should_training_stop), int(control.should_epoch_stop))
            control.should_training_stop, control.should_epoch_stop = bool(stop), bool(epoch)
        elif control.should_training_stop:
            control.should_training_stop, self._later = False, True
