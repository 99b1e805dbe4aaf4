"""Refuses an optimizer or a schedule that cannot be made here, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, get_scheduler

from ...sources.escaping import whole_message
from ...sources.missing_packages import missing_package
from ..config import MLMConfig
from .schedules import is_wsd, with_phases

_OPTIMIZERS = "Accepted: adamw_torch_fused, adamw_torch, adafactor, sgd and others that need no other package."

#: Arguments of schedules, for messages.
_EXAMPLES = dict.fromkeys(("cosine_with_min_lr", "cosine_warmup_with_min_lr"), '{"min_lr_rate": 0.1}') | {
    "inverse_sqrt": '{"timescale": 10000}',
    "polynomial": '{"power": 2.0}',
    "warmup_stable_decay": '{"decay_type": "1-sqrt"}',
}
_EXAMPLE = '{"num_cycles": 2} for cosine_with_restarts'

#: More than any run has, for one whose number of steps is not known yet.
_MANY_STEPS = 10**9


def refuse_unusable(args: MLMConfig) -> None:
    """Raise ValueError if transformers cannot make the optimizer or the schedule that `args` names.

    Both are made as for a run, the schedule with an optimizer of one weight. What an optimizer asks of the model is not
    known here.

    Raises: MissingPackageError, a ValueError and an ImportError, for an optimizer whose package is not installed.

    >>> refuse_unusable(MLMConfig(optim="sgd", use_cpu=True))
    """
    _refuse_optimizer(args)
    _refuse_schedule(args)


def _refuse_optimizer(args: MLMConfig) -> None:
    name = str(getattr(args.optim, "value", args.optim))
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except Exception as error:  # transformers raises a ValueError for some packages, and an ImportError for others
        if (missing := missing_package(error, f"optim: {name!r}", _OPTIMIZERS)) is not None:
            raise missing from error
        if "pass a" in str(error) and "model" in str(error):
            return  # everything else is there
        raise ValueError(
            f"optim: received {name!r}, with which transformers makes no optimizer here "
            f"({whole_message(error, ValueError)}). {_OPTIMIZERS} Correct optim, optim_args or optim_target_modules."
        ) from error


def _refuse_schedule(args: MLMConfig) -> None:
    name = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    kwargs: Any = args.lr_scheduler_kwargs
    if is_wsd(name):
        steps = args.max_steps if args.max_steps > 0 else _MANY_STEPS
        kwargs = with_phases(kwargs, steps, args.get_warmup_steps(steps))
    try:
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=torch.optim.SGD([torch.zeros(1)], lr=args.learning_rate),
            num_warmup_steps=0,
            num_training_steps=10,
            scheduler_specific_kwargs=kwargs,
        )
    except Exception as error:  # of any kind: the values go to a function of transformers or torch
        raise ValueError(
            f"lr_scheduler_kwargs: received {args.lr_scheduler_kwargs!r}, with which transformers cannot make the "
            f"schedule {name} ({whole_message(error, ValueError)}). Accepted: the arguments of that schedule in "
            f"transformers, such as {_EXAMPLES.get(name, _EXAMPLE)}. Correct them, or choose another "
            "lr_scheduler_type."
        ) from error
