"""Reads `torch_compile` from all the places that can set it: Python, YAML, a command line, accelerate's launcher."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

_WORDS: dict[str, bool | Literal["auto"]] = {"auto": "auto", "true": True, "false": False}


class CompileOption(NamedTuple):
    """Whether to compile, and the two options of `torch.compile` that transformers has a name for.

    Attributes:
        asked: True, False, or "auto" (`mlm_recipes.training.speed.compile_choice` decides).
        backend: None for torch's default, inductor.
        mode: None for torch's default.
    """

    asked: bool | Literal["auto"]
    backend: str | None = None
    mode: str | None = None


def compile_option(
    given: Any, backend: str | None, mode: str | None, environment: Mapping[str, str] | None = None
) -> CompileOption:
    """Return what was requested, given the values of `torch_compile`, `torch_compile_backend`, `torch_compile_mode`.

    If `given` is auto, a backend or a mode means true, as in transformers. So does a backend that `accelerate launch`
    or an accelerate config has set in the environment, whose backend and mode are then the run's.

    Raises: ValueError for a value other than auto, true and false.

    >>> compile_option("auto", None, None, {})
    CompileOption(asked='auto', backend=None, mode=None)
    >>> compile_option("true", None, "max-autotune", {})
    CompileOption(asked=True, backend=None, mode='max-autotune')
    >>> compile_option("auto", None, None, {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})
    CompileOption(asked=True, backend='inductor', mode=None)
    """
    environment = os.environ if environment is None else environment
    asked = _WORDS.get(str(given).lower())
    if asked is None:
        raise ValueError(
            f"torch_compile: received {given!r}. Accepted: auto (where it saves time), true or false. Leave it out for "
            "the default, auto."
        )
    launcher = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if asked == "auto" and backend is None and mode is None and launcher != "no":
        set_mode = environment.get("ACCELERATE_DYNAMO_MODE", "default")
        backend, mode = launcher, None if set_mode == "default" else set_mode
    if asked == "auto" and (backend is not None or mode is not None):
        asked = True
    return CompileOption(asked, backend, mode)
