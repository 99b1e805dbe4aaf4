"""What the callbacks of one process ask for, all processes do: otherwise the others would wait for it."""

from __future__ import annotations

from transformers import TrainerControl

from .processes import highest

_ASKED = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")


def agree_on(control: TrainerControl, received: int = 0) -> int:
    """Set whatever is set in the control of any process, and return the highest number that any has `received`.

    All processes must call this, in the same order; with one process nothing changes. A callback with a clock, say,
    stops a run in one process a step earlier than in another one.

    >>> control = TrainerControl(should_save=True)
    >>> agree_on(control, received=15), control.should_save, control.should_training_stop
    (15, True, False)
    """
    highest_received, *asked = highest(received, *(int(getattr(control, name)) for name in _ASKED))
    for name, value in zip(_ASKED, asked, strict=True):
        setattr(control, name, bool(value))
    return highest_received
