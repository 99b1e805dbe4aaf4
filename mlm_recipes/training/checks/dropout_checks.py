"""Checks what a config says about dropout."""

from __future__ import annotations

from typing import Any


def check_dropout(config: Any) -> None:
    """Raise ValueError for a value that `dropout_by_example` cannot be combined with."""
    if config.dropout_by_example and config.torch_compile in (True, "true"):
        raise ValueError(
            "dropout_by_example: received true with torch_compile true. Accepted: one of them, since a compiled model "
            "draws noise of its own. Leave torch_compile out."
        )
