"""The callbacks that a caller passes in: each must be one, since transformers notices only when it calls it."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


def check_callbacks(callbacks: Any) -> list[Any]:
    """Return the callbacks as a list.

    Args:
        callbacks: a list or tuple of TrainerCallback objects, or of such classes, which are called without arguments;
            None for none.

    Raises: ValueError for anything else.

    >>> check_callbacks(None), check_callbacks((TrainerCallback,)) == [TrainerCallback]
    ([], True)
    >>> check_callbacks([print])
    Traceback (most recent call last):
    ...
    ValueError: callbacks: received builtin_function_or_method at place 1, which is no TrainerCallback. Accepted: a \
list of transformers.TrainerCallback objects. Derive its class from TrainerCallback, or leave it out.
    """
    if callbacks is None:
        return []
    if not isinstance(callbacks, list | tuple):
        one = " Write it in brackets: [...]." if _is_one(callbacks) else " Pass a list, or leave it out."
        raise ValueError(
            f"callbacks: received {_named(callbacks)}. Accepted: a list of transformers.TrainerCallback objects.{one}"
        )
    for place, callback in enumerate(callbacks, start=1):
        if not _is_one(callback):
            raise ValueError(
                f"callbacks: received {_named(callback)} at place {place}, which is no TrainerCallback. Accepted: a "
                "list of transformers.TrainerCallback objects. Derive its class from TrainerCallback, or leave it out."
            )
    return [*callbacks]


def _is_one(value: Any) -> bool:
    return issubclass(value if isinstance(value, type) else type(value), TrainerCallback)


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
