"""Checks the values that say which parts of the model learn, and how fast."""

from __future__ import annotations

import math
from typing import Any

from ...model.freezing import lower_layers
from ..distributed.launcher import asked_sharding

#: What these values change, which FSDP has divided by then.
_NEED_WHOLE_WEIGHTS = {"freeze": "none", "layerwise_lr_decay": 1.0, "head_warmup_steps": 0.0}


def check_freezing(config: Any) -> None:
    """Raise ValueError for a value that is out of range or conflicts with another one."""
    lower_layers(config.freeze)
    decay, warmup = config.layerwise_lr_decay, config.head_warmup_steps
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay <= 1:
        raise ValueError(
            f"layerwise_lr_decay: received {decay!r}. Accepted: above 0, at most 1, which is one rate for all layers. "
            "Try --layerwise_lr_decay 0.9."
        )
    if warmup != "auto" and (isinstance(warmup, str) or not 0 <= warmup < math.inf):
        raise ValueError(
            f"head_warmup_steps: received {warmup!r}. Accepted: a number of steps, below 1 a share of them, or auto. "
            "Try --head_warmup_steps 0.1."
        )
    for name, default in _NEED_WHOLE_WEIGHTS.items():
        if getattr(config, name) != default and asked_sharding(config):
            raise ValueError(
                f"{name}: received {getattr(config, name)!r} with {asked_sharding(config)}. Accepted: {default} with "
                "it, since it splits the weights before they can be told apart. Leave one of them out."
            )


def check_checkpointing(config: Any) -> None:
    """Raise ValueError for a frozen part with the kind of gradient checkpointing that would lose gradients above it."""
    kwargs: Any = config.gradient_checkpointing_kwargs
    if config.freeze != "none" and isinstance(kwargs, dict) and kwargs.get("use_reentrant"):
        raise ValueError(
            f"gradient_checkpointing_kwargs: received use_reentrant: true with freeze {config.freeze!r}. Accepted: "
            "false, the default, since layers above a frozen part would otherwise get no gradient. Leave it out."
        )


def refuse_own_optimizer(config: Any, optimizers: Any) -> None:
    """Raise ValueError for an optimizer of the caller's whose groups a value of the config would change."""
    if config.layerwise_lr_decay != 1 and optimizers is not None and optimizers[0] is not None:
        raise ValueError(
            f"layerwise_lr_decay: received {config.layerwise_lr_decay} with your own optimizer, whose groups have the "
            "rates that you gave them. Accepted: 1 with it. Leave optimizers or layerwise_lr_decay out."
        )


def as_number(value: Any) -> Any:
    """Return a number that was given as a word as a number, and anything else as it is.

    >>> as_number("20"), as_number(20), as_number("auto")
    (20.0, 20.0, 'auto')
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
