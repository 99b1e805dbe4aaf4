"""Turns what transformers and accelerate raise for values of a config into a sentence that names the value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...sources.escaping import one_line, whole_message
from ...sources.missing_packages import missing_package

#: Values that are a dict or JSON text; with True, also the name of a file that contains JSON.
_OBJECTS = {
    "accelerator_config": True,
    "activation_checkpointing_kwargs": False,
    "fsdp_config": True,
    "gradient_checkpointing_kwargs": False,
    "lr_scheduler_kwargs": False,
}


def check_objects(config: Any) -> None:
    """Raise ValueError for a value that should be an object and is none, or names a file that holds none."""
    for name, may_be_file in _OBJECTS.items():
        value = getattr(config, name, None)
        accepted = "a dict, or JSON such as '{\"key\": 1}'" + (", or a file that contains it" if may_be_file else "")
        if isinstance(value, int | float | list):
            raise ValueError(f"{name}: received {value!r}. Accepted: {accepted}. Write it in braces.")
        if not isinstance(value, str):
            continue
        text = value
        if not value.lstrip().startswith("{"):
            if not may_be_file:
                raise ValueError(f"{name}: received {value!r}. Accepted: {accepted}. Write it in braces.")
            try:
                text = Path(value).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{name}: {value!r} cannot be read ({error}). Accepted: {accepted}. Check the path."
                ) from error
        try:
            wrong = None if isinstance(json.loads(text), dict) else "it contains no object"
        except ValueError as error:
            wrong = one_line(str(error))
        if wrong:
            raise ValueError(
                f"{name}: received {value!r}, which is not JSON ({wrong}). Accepted: {accepted}. Correct it."
            )


@contextmanager
def refused(config: Any) -> Iterator[None]:
    """Raise a ValueError that names the value for any error that transformers raises within `with`.

    Raises: MissingPackageError, a ValueError and an ImportError, if a value needs a package that is not installed.
    """
    try:
        yield
    except ImportError as error:
        what = _blamed(config, error)
        missing = missing_package(error, f"{what}: it", "Accepted: no value, which needs no other package.")
        raise missing or ValueError(_sentence(what, error)) from error
    except (TypeError, KeyError, AttributeError, AssertionError, NotImplementedError) as error:
        raise ValueError(_sentence(_blamed(config, error), error)) from error


def _blamed(config: Any, error: BaseException) -> str:
    """Return the name of the value that an error is about, as far as it can be told."""
    said = f"{type(error).__name__} {error}".lower().replace("_", "")
    given = [name for name in _OBJECTS if getattr(config, name, None)]
    for name in given:
        if name.replace("_", "") in said or name.split("_")[0] in said:
            return name
    return given[0] if len(given) == 1 else "config"


def _sentence(what: str, error: BaseException) -> str:
    return (
        f"{what}: transformers refuses what was received ({whole_message(error)}). Accepted: the values that its "
        "documentation of TrainingArguments names. Correct it, or leave it out."
    )
