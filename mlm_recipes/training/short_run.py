"""A run of a few steps that leaves nothing behind, for timing and verification."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..checkpoints.value_kinds import METRIC_DRIVEN
from ..masking.probability_schedule import ProbabilitySchedule
from .config import MLMConfig
from .optimization.schedules import is_wsd, without_phases

#: The values of a run in which no measure selects a model.
NOTHING_SELECTED: dict[str, Any] = {
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "early_stopping_patience": None,
    "early_stopping_threshold": 0.0,
}

#: The values of a run that leaves nothing behind: it saves, sends and shows nothing, and resumes no other run.
_WITHOUT_TRACE: dict[str, Any] = {
    **NOTHING_SELECTED,
    "eval_on_start": False,
    "save_strategy": "no",
    "push_to_hub": False,
    "report_to": "none",
    "resume_from_checkpoint": None,
    "change_on_resume": None,
    "disable_tqdm": True,
}


def cut_short(config: MLMConfig, steps: int, **changes: Any) -> MLMConfig:
    """Return the config of a run of `steps` steps that leaves nothing behind; values that it cannot use are replaced.

    >>> short = cut_short(MLMConfig(use_cpu=True, train_minutes=1), steps=3, logging_strategy="no")
    >>> short.max_steps, short.train_minutes, str(short.save_strategy.value)
    (3, None, 'no')
    """
    follows_metric = config.lr_scheduler_type in METRIC_DRIVEN  # which is not measured
    kwargs: Any = config.lr_scheduler_kwargs
    kwargs = without_phases(kwargs) if is_wsd(config.lr_scheduler_type) else kwargs
    return dataclasses.replace(
        config,
        max_steps=steps,
        train_minutes=None,
        dataloader_drop_last=False,
        lr_scheduler_type="constant" if follows_metric else config.lr_scheduler_type,
        lr_scheduler_kwargs=None if follows_metric else kwargs,
        eval_strategy="no",
        **_WITHOUT_TRACE,
        **changes,
    )


def schedule_values(schedule: ProbabilitySchedule) -> dict[str, Any]:
    """Return the values of a config that describe a schedule of the masked share.

    >>> schedule_values(ProbabilitySchedule("constant", (0.3,)))["mlm_probability_schedule"]
    'constant'
    >>> schedule = ProbabilitySchedule("step", (0.3, 0.15, 0.05), (0.8, 0.95))
    >>> MLMConfig(use_cpu=True, **schedule_values(schedule)).probability_schedule() == schedule
    True
    """
    return {
        "mlm_probability": schedule.shares[0],
        "mlm_probability_schedule": schedule.kind,
        "mlm_probability_end": [*schedule.shares[1:]] or None,
        "mlm_probability_boundaries": [*schedule.boundaries] or None,
    }
