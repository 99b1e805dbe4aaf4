"""`ProbabilitySchedule`: the share of the tokens that is masked, as a function of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from .share_of_steps import share_of_steps

#: How the share may change over a run.
SCHEDULES = ("constant", "linear", "cosine", "step")


@dataclass(frozen=True)
class ProbabilitySchedule:
    """The share of the tokens that each optimizer step masks.

    Args:
        kind: a name in `SCHEDULES`.
        shares: `linear` and `cosine` go from the first, in the first step, to the second, in the last; `step` has a
            phase for each. In (0, 1].
        boundaries: where the phases after the first begin, as shares of the run's steps; by default all phases have the
            same length.

    Called with a `step`, from 0, and the `total` number of steps of the run, it returns the share, in (0, 1]. Steps
    after the last have its share.

    A share that falls linearly is from "Dynamic Masking Rate Schedules for MLM Pretraining" (Ankner et al. 2023,
    arXiv:2305.15096), with 0.3 to 0.15; falling phases are from "mmBERT: A Modern Multilingual Encoder with Annealed
    Language Learning" (Marone et al. 2025, arXiv:2509.06888), with 0.3, 0.15 and 0.05.

    >>> [round(ProbabilitySchedule("linear", (0.3, 0.15))(step, total=4), 4) for step in range(4)]
    [0.3, 0.25, 0.2, 0.15]
    >>> [round(ProbabilitySchedule("cosine", (0.3, 0.15))(step, total=4), 4) for step in range(4)]
    [0.3, 0.2625, 0.1875, 0.15]
    >>> [ProbabilitySchedule("step", (0.3, 0.15, 0.05))(step, total=6) for step in range(6)]
    [0.3, 0.3, 0.15, 0.15, 0.05, 0.05]
    >>> [ProbabilitySchedule("step", (0.3, 0.15), (0.75,))(step, total=4) for step in range(4)]
    [0.3, 0.3, 0.3, 0.15]
    """

    kind: str
    shares: tuple[float, ...]
    boundaries: tuple[float, ...] = ()

    def __call__(self, step: int, total: int) -> float:
        """Return the share that is masked in a step."""
        if self.kind == "constant":
            return self.shares[0]
        if self.kind == "step":
            return self.shares[self._phase(step, total)]
        first, last = self.shares
        done = min(1.0, step / max(1, total - 1))
        if self.kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return first * (1 - done) + last * done

    def _phase(self, step: int, total: int) -> int:
        if self.boundaries:
            return sum(step >= share_of_steps(boundary, total) for boundary in self.boundaries)
        return min(step * len(self.shares) // max(1, total), len(self.shares) - 1)

    def within(self, total: int) -> ProbabilitySchedule:
        """Return the schedule without the phases that have none of a run's steps; what each step masks is the same.

        A `total` of 0 or below is a number of steps that is not known yet, as `max_steps` is without a value.

        >>> print(ProbabilitySchedule("step", (0.3, 0.15, 0.05), (0.8, 0.95)).within(total=5))
        30%, 15% from 80% of the steps on
        >>> print(ProbabilitySchedule("step", (0.3, 0.15, 0.05)).within(total=1))
        30%
        """
        if self.kind != "step" or total <= 0:
            return self
        phases = len(self.shares)
        begins = [0, *(share_of_steps(boundary, total) for boundary in self.boundaries)]
        if not self.boundaries:
            begins = [-(-phase * total // phases) for phase in range(phases)]
        come = [n for n in range(phases) if begins[n] < min([*begins[n + 1 :], total])]
        shares = tuple(self.shares[n] for n in come)
        if len(shares) == 1:
            return ProbabilitySchedule("constant", shares)
        return ProbabilitySchedule("step", shares, tuple(self.boundaries[n - 1] for n in come[1:] if self.boundaries))

    def mean(self, steps: Sequence[int], total: int) -> float:
        """Return the mean share of some steps.

        >>> round(ProbabilitySchedule("linear", (0.3, 0.1)).mean(range(3), total=3), 4)
        0.2
        """
        return math.fsum(self(step, total) for step in steps) / len(steps)

    def __str__(self) -> str:
        """Return the schedule in words.

        >>> print(ProbabilitySchedule("linear", (0.3, 0.15)))
        30% to 15%, linear
        >>> print(ProbabilitySchedule("step", (0.3, 0.15, 0.05), (0.8, 0.95)))
        30%, 15% from 80% of the steps on, 5% from 95% of the steps on
        """
        shares = [f"{100 * share:g}%" for share in self.shares]
        if self.kind == "constant":
            return shares[0]
        if self.kind != "step":
            return f"{' to '.join(shares)}, {self.kind}"
        if not self.boundaries:
            return f"{', '.join(shares)}, in phases of equal length"
        begins = [f" from {100 * boundary:g}% of the steps on" for boundary in self.boundaries]
        return ", ".join([shares[0], *(share + begin for share, begin in zip(shares[1:], begins, strict=True))])


def probability_schedule(
    kind: str, first: float, end: Any = None, boundaries: Sequence[float] | None = None
) -> ProbabilitySchedule:
    """Return the schedule that a config's values describe, after checking them.

    Args:
        kind: `mlm_probability_schedule`.
        first: `mlm_probability`, which has been checked.
        end: `mlm_probability_end`: a number, or a list of numbers.
        boundaries: `mlm_probability_boundaries`.

    Raises: ValueError for values that are out of range, or that the schedule does not have.

    >>> probability_schedule("linear", 0.3, 0.15)
    ProbabilitySchedule(kind='linear', shares=(0.3, 0.15), boundaries=())
    >>> probability_schedule("linear", 0.3)
    Traceback (most recent call last):
    ...
    ValueError: mlm_probability_end: received None with mlm_probability_schedule 'linear'. Accepted: one number, the \
share of the last step. Pass --mlm_probability_end 0.15.
    """
    if kind not in SCHEDULES:
        raise ValueError(
            f"mlm_probability_schedule: received {kind!r}. Accepted: {', '.join(SCHEDULES)}. Leave it out to mask the "
            "same share in every step."
        )
    later = [] if end is None else list(end) if isinstance(end, list | tuple) else [end]
    _check_end(kind, end, later)
    _check_boundaries(kind, later, boundaries)
    return ProbabilitySchedule(kind, (first, *later), tuple(boundaries or ()))


def _check_end(kind: str, end: Any, later: list[Any]) -> None:
    if kind == "constant":
        if end is not None:
            raise ValueError(
                f"mlm_probability_end: received {end!r} with mlm_probability_schedule 'constant'. Accepted: linear, "
                "cosine or step with it, since a constant share has no other end. Pass --mlm_probability_schedule "
                "linear, or leave it out."
            )
        return
    if kind != "step" and len(later) != 1:
        raise ValueError(
            f"mlm_probability_end: received {end!r} with mlm_probability_schedule {kind!r}. Accepted: one number, the "
            "share of the last step. Pass --mlm_probability_end 0.15."
        )
    if not later:
        raise ValueError(
            f"mlm_probability_end: received {end!r} with mlm_probability_schedule 'step'. Accepted: the share of each "
            "phase after the first. Pass --mlm_probability_end 0.15 0.05."
        )
    for share in later:
        if not _is_number(share) or not 0 < share <= 1:
            raise ValueError(
                f"mlm_probability_end: received {share!r}. Accepted: above 0, at most 1. Ankner et al. end with 0.15, "
                "mmBERT with 0.05."
            )


def _check_boundaries(kind: str, later: list[Any], boundaries: Any) -> None:
    if boundaries is None:
        return
    if kind != "step":
        raise ValueError(
            f"mlm_probability_boundaries: received {boundaries!r} with mlm_probability_schedule {kind!r}. Accepted: "
            "step with it, since only that has phases. Leave one of them out."
        )
    listed = isinstance(boundaries, list | tuple)
    rise = listed and all(_is_number(each) and 0 < each < 1 for each in boundaries)
    if not rise or len(boundaries) != len(later) or sorted(set(boundaries)) != list(boundaries):
        example = " ".join(f"{(n + 1) / (len(later) + 1):.2g}" for n in range(len(later)))
        raise ValueError(
            f"mlm_probability_boundaries: received {boundaries!r} with {len(later)} in mlm_probability_end. Accepted: "
            "for each of these, where its phase begins, as a share of the run's steps between 0 and 1, rising. Pass "
            f"--mlm_probability_boundaries {example}, or leave it out for phases of equal length."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
