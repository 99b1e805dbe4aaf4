"""Fills in what `warmup_stable_decay` needs to know, and refuses phases that are longer than the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...masking.share_of_steps import share_of_steps
from ...report.wording import count

#: The share of the steps in which the learning rate decays: with 1-sqrt, more than a fifth hardly helped (Hägele et al.
#: 2024, arXiv:2405.18392).
DECAY_SHARE = 0.2

WSD = "warmup_stable_decay"

_PHASES = ("num_stable_steps", "num_decay_steps")


def is_wsd(lr_scheduler_type: Any) -> bool:
    """Tell whether a schedule is `warmup_stable_decay`, as a string or transformers' enumeration.

    >>> is_wsd("warmup_stable_decay"), is_wsd("linear")
    (True, False)
    """
    return str(getattr(lr_scheduler_type, "value", lr_scheduler_type)) == WSD


def with_phases(kwargs: Mapping[str, Any] | None, steps: int, warmup: int) -> dict[str, Any]:
    """Return the `lr_scheduler_kwargs` of `warmup_stable_decay` with the number of steps of its decay.

    Args:
        kwargs: those that were given. `num_decay_steps` and `num_stable_steps` may be shares of the steps, below 1. If
            both are missing, the decay takes DECAY_SHARE of the steps; if one is, all that the other leaves.
        steps: the run's number of steps.
        warmup: how many of them are the warm-up.

    Raises: ValueError if the phases do not add up to the run.

    >>> with_phases(None, steps=100, warmup=10)
    {'num_decay_steps': 20}
    >>> with_phases({"num_decay_steps": 0.5, "decay_type": "1-sqrt"}, steps=100, warmup=10)
    {'decay_type': '1-sqrt', 'num_decay_steps': 50}
    """
    given = dict(kwargs or {})
    found = {name: _steps(name, given.pop(name), steps) for name in _PHASES if given.get(name) is not None}
    left = max(0, steps - warmup)
    if "num_decay_steps" not in found:
        stable = found.get("num_stable_steps")
        # A run of few steps is all warm-up and decay.
        found["num_decay_steps"] = min(left, share_of_steps(DECAY_SHARE, steps)) if stable is None else left - stable
    decay = found["num_decay_steps"]
    fills = "num_stable_steps" not in found or found["num_stable_steps"] + decay == left
    if not 0 <= decay <= left or not fills:
        stated = " and ".join(f"{name} {kwargs[name]}" for name in _PHASES if kwargs and kwargs.get(name) is not None)
        raise ValueError(
            f"lr_scheduler_kwargs: received {stated} for a run of {steps} steps, {warmup} of them warm-up. Accepted: "
            f"phases that add up to the run, at most {left} steps. Leave num_stable_steps out, and write "
            f"num_decay_steps as a share: '{{\"num_decay_steps\": {DECAY_SHARE}}}'."
        )
    # transformers computes the steps between from these two, and warns if it is told them as well.
    return {name: value for name, value in given.items() if name not in _PHASES} | {"num_decay_steps": decay}


def without_phases(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the `lr_scheduler_kwargs` for a run of a few steps, which phases of the whole run may not fit into.

    >>> without_phases({"num_decay_steps": 0.8, "decay_type": "linear"})
    {'decay_type': 'linear'}
    """
    return {name: value for name, value in (kwargs or {}).items() if name not in _PHASES}


def phases(kwargs: Mapping[str, Any], steps: int, warmup: int) -> str:
    """Return a sentence that says what `with_phases` chose.

    >>> phases({"num_decay_steps": 20, "decay_type": "1-sqrt"}, steps=100, warmup=10)
    'warmup_stable_decay: 10 steps of warm-up, 70 at the full learning rate, 20 of decay (1-sqrt).'
    """
    decay, how = kwargs["num_decay_steps"], kwargs.get("decay_type", "cosine")
    stable = f"{steps - warmup - decay:,} at the full learning rate"
    return f"{WSD}: {count(warmup, 'step')} of warm-up, {stable}, {decay:,} of decay ({how})."


def _steps(name: str, value: Any, steps: int) -> int:
    share = isinstance(value, float) and 0 < value < 1
    if isinstance(value, bool) or not isinstance(value, int | float) or not (share or value == int(value) >= 0):
        raise ValueError(
            f"lr_scheduler_kwargs: received {name}: {value!r}. Accepted: a number of steps, or a share of them below "
            f"1. Write '{{\"{name}\": {DECAY_SHARE}}}'."
        )
    return share_of_steps(value, steps) if share else int(value)
