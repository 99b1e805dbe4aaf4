"""The global batch stays what it is, whatever the number of processes: gradient accumulation follows from it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

#: What divides a global batch, besides the number of processes: the config's values by name.
Layout = dict[str, int]
LAYOUT = ("per_device_train_batch_size", "gradient_accumulation_steps")


def layout_of(args: Any) -> Layout:
    """Return a config's values that divide a batch."""
    return {name: getattr(args, name) for name in LAYOUT}


def layout(global_batch: int, micro_batch: int, processes: int) -> tuple[int, int]:
    """Return the examples of a micro-batch and the number of micro-batches in a step, in each process.

    The micro-batch is the given one, or, if the global batch cannot be divided into such, the largest below it.

    Raises: ValueError if the global batch cannot be divided over the processes.

    >>> layout(12, micro_batch=6, processes=2), layout(12, micro_batch=6, processes=1), layout(12, 6, processes=3)
    ((6, 1), (6, 2), (4, 1))
    """
    share, rest = divmod(global_batch, processes)
    if rest:
        accepted = ", ".join(str(number) for number in range(1, global_batch + 1) if global_batch % number == 0)
        raise ValueError(
            f"processes: received {processes} for a global batch of {global_batch}, which is the same from a run's "
            f"first step to its last. Accepted: a number that divides it: {accepted}. Start so many."
        )
    size = next(size for size in range(min(micro_batch, share), 0, -1) if share % size == 0)
    return size, share // size


def follow(args: Any, global_batch: int) -> Any:
    """Return a config whose steps have `global_batch` examples over all processes: `args`, or a changed copy.

    Raises: ValueError as `layout`.
    """
    given = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if given[0] * given[1] * args.world_size == global_batch:
        return args
    found = layout(global_batch, given[0], args.world_size)
    args = copy.copy(args)  # the config is the caller's
    args.per_device_train_batch_size, args.gradient_accumulation_steps = found
    changed = f"gradient_accumulation_steps {found[1]}"
    if found[0] != given[0]:
        changed = f"per_device_train_batch_size {found[0]} instead of {given[0]}, {changed}"
    count = f"{args.world_size} process{'' if args.world_size == 1 else 'es'}"
    if args.global_batch_size is None:
        logger.info("%s: %s; the global batch of %d is as before.", count, changed, global_batch)
    else:
        logger.info("%s: %s, for a global batch of %d.", count, changed, global_batch)
    return args


def only_processes_differ(values: Mapping[str, Any], args: Any) -> bool:
    """Tell whether a config divides a batch as the saved `values` of its run do, so that only the processes differ."""
    return layout_of(args).items() <= values.items()
