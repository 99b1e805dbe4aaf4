"""What callbacks remember (transformers' `ExportableState`): kept in checkpoints, and restored in a resumed run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers.trainer_callback import ExportableState


def restore_states(callbacks: Iterable[Any], saved: dict[str, Any], restored_elsewhere: Sequence[type] = ()) -> None:
    """Give callbacks the attributes that a checkpoint stores for them, and let the next checkpoints store them again.

    transformers would replace each callback by a new one, made with the arguments of the old run; here it stays the
    caller's object and keeps its own arguments, such as a longer patience.

    Args:
        callbacks: the callbacks of the run.
        saved: `stateful_callbacks` of trainer_state.json; several states of one class are in a list, in order.
        restored_elsewhere: classes that are not touched.

    >>> from transformers import EarlyStoppingCallback
    >>> callback = EarlyStoppingCallback(early_stopping_patience=5)
    >>> attributes = {"early_stopping_patience_counter": 2}
    >>> restore_states([callback], {"EarlyStoppingCallback": {"args": {}, "attributes": attributes}})
    >>> callback.early_stopping_patience_counter
    2
    """
    waiting = {name: [*states] if isinstance(states, list) else [states] for name, states in saved.items()}
    now: dict[str, list[Any]] = {}
    for callback in callbacks:
        if isinstance(callback, ExportableState):
            name = type(callback).__name__
            if waiting.get(name) and not isinstance(callback, tuple(restored_elsewhere)):
                for attribute, value in (waiting[name].pop(0).get("attributes") or {}).items():
                    setattr(callback, attribute, value)
            now.setdefault(name, []).append(callback.state())
    # transformers fails at the next save if a callback that was added since then is missing here.
    saved.update({name: states[0] if len(states) == 1 else states for name, states in now.items()})


def forget_lists(saved: dict[str, Any]) -> None:
    """Empty the lists of `stateful_callbacks`: transformers appends to them at each save, and restores the first."""
    for states in saved.values():
        if isinstance(states, list):
            states.clear()
