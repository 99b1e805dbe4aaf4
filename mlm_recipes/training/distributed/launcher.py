"""What `accelerate launch` and an accelerate config ask for counts as much as what the run's config says.

The launcher tells its processes by environment variables. What a config has a value for becomes that value, so that
recipe.yaml records it. What contradicts the config is refused, since one of the two would be ignored without a word.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from accelerate.utils import DistributedType

from .launched_fsdp import USE_FSDP, take_fsdp
from .processes import several

logger = logging.getLogger(__name__)

#: What a launcher can ask for that this library does not do, and what it would do.
_REFUSED = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM, which splits the layers",
    "PARALLELISM_CONFIG_TP_SIZE": "tensor parallelism, which splits the layers",
    "PARALLELISM_CONFIG_CP_SIZE": "context parallelism, which splits the rows",
    "PARALLELISM_CONFIG_SP_SIZE": "sequence parallelism, which splits the rows",
}


def asks_for(name: str, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether the launcher has switched something on.

    >>> asks_for("ACCELERATE_USE_FSDP", {"ACCELERATE_USE_FSDP": "true"}), asks_for("ACCELERATE_USE_FSDP", {})
    (True, False)
    >>> asks_for("PARALLELISM_CONFIG_TP_SIZE", {"PARALLELISM_CONFIG_TP_SIZE": "1"})
    False
    """
    value = (os.environ if environment is None else environment).get(name, "").strip().lower()
    if name.endswith("_SIZE"):
        return value not in ("", "0", "1")
    return value in ("1", "true", "t", "yes", "y", "on")


def asked_sharding(config: Any) -> str | None:
    """Return what the config or the launcher asks to split the model over the processes: FSDP, or None."""
    return "FSDP" if config.fsdp or asks_for(USE_FSDP) else None


def take_over(config: Any) -> None:
    """Set the values of `config` that the launcher asks for, before the config's defaults are chosen.

    Raises: ValueError if the launcher asks for what the config contradicts, or for what this library does not do.
    """
    for name, what in _REFUSED.items():
        if asks_for(name):
            raise ValueError(
                f"launcher: received {name}={os.environ[name]}, which is {what} over the processes. Accepted: one "
                "process for each device, or FSDP. Leave it out of `accelerate launch` or its config."
            )
    if asks_for("ACCELERATE_USE_CPU"):
        config.use_cpu = True  # accelerate would use the CPU anyway, and the precision follows from that
    if asks_for(USE_FSDP):
        take_fsdp(config)
    _take_precision(config, os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower())
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps.isdigit() and int(steps) > 1:
        if config.global_batch_size is not None:
            raise ValueError(
                f"global_batch_size: received {config.global_batch_size}, but the launcher asks for "
                f"gradient_accumulation_steps {steps}. Accepted: one of them, since the other follows from it. Leave "
                "--gradient_accumulation_steps out of `accelerate launch` and its config."
            )
        _agree(config, "gradient_accumulation_steps", int(steps), unset=1)


def _take_precision(config: Any, asked: str) -> None:
    if asked not in ("no", "bf16", "fp16"):
        raise ValueError(
            f"launcher: received --mixed_precision {asked}. Accepted: no, bf16 or fp16. With no, the config decides."
        )
    if asked == "no":
        return
    other = "fp16" if asked == "bf16" else "bf16"
    if getattr(config, other):
        raise ValueError(
            f"{other}: received true, but the launcher asks for {asked} (`accelerate launch --mixed_precision`). "
            f"Accepted: the same in both. Leave one of them out, or pass --mixed_precision {other}."
        )
    if getattr(config, asked) is False and asked == "bf16":
        logger.warning("bf16 is on, although the config says false: the launcher asks for it.")
    setattr(config, asked, True)


def _agree(config: Any, name: str, asked: int, unset: int) -> None:
    given = getattr(config, name)
    if given not in (unset, asked):
        raise ValueError(
            f"{name}: received {given}, but the launcher asks for {asked}. Accepted: the same in both. Leave one of "
            "them out."
        )
    setattr(config, name, asked)


def refuse_alone(config: Any) -> None:
    """Raise ValueError if one process alone is asked to split the model over several."""
    asked = asked_sharding(config)
    if asked == "FSDP" and not several():
        raise _whole_model(config, asked, "in one process")


def sharding(accelerator: Any, config: Any) -> str | None:
    """Return what splits the model over the processes: FSDP, or None.

    Raises: ValueError if that was asked for and does not happen, since accelerate then starts plain processes without
    saying so, each with the whole model.
    """
    asked = asked_sharding(config)
    there = "FSDP" if accelerator.distributed_type == DistributedType.FSDP else None
    if asked is not None and there != asked:
        raise _whole_model(config, asked, f"on {accelerator.device.type.upper()} devices")
    return there


def _whole_model(config: Any, asked: str, place: str) -> ValueError:
    received = "--use_fsdp of `accelerate launch`" if asks_for(USE_FSDP) else repr(config.fsdp)
    return ValueError(
        f"fsdp: received {received}, {place}. Accepted: {asked} in several processes with a GPU each; here each "
        f"process would hold the whole model. Leave it out."
    )
