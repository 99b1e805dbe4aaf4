"""Communication between processes: results of the main process, success of all of them, maxima over all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from .failing_together import go_alone, patience

T = TypeVar("T")


def from_main(make: Callable[[], T]) -> T:
    """Call `make` in the main process only, and return its result in every process.

    All processes must call this, in the same order; with one process it is `make()`. The result is pickled.

    Raises: in the main process what `make` raises; in the others a ValueError with the same message.

    >>> from_main(lambda: "read once")
    'read once'
    """
    if not several():
        return make()
    value, error = _attempt(make)
    told: list[Any] = [(value, error and str(error))]
    dist.broadcast_object_list(told, src=0, group=_group(dist.group.WORLD))
    return _received(told[0], error)


def dealt_by_main(make: Callable[[], list[T]]) -> T:
    """Call `make` in the main process only; it returns a list with one item per process, and each process gets its own.

    Otherwise as `from_main`.

    >>> dealt_by_main(lambda: ["a share"])
    'a share'
    """
    if not several():
        return make()[0]
    shares, error = _attempt(make)
    dealt: list[Any] | None = None
    if dist.get_rank() == 0:
        dealt = [(share, None) for share in shares] if shares else [(None, str(error))] * dist.get_world_size()
    told: list[Any] = [None]
    dist.scatter_object_list(told, dealt, src=0, group=_group(dist.group.WORLD))
    return _received(told[0], error)


def all_or_none(act: Callable[[], T]) -> T:
    """Call `act` in every process and return its result; if it raises in one process, raise in all.

    All processes must call this, in the same order. Otherwise an error in one process would leave the others waiting.

    Raises: what `act` raises; in the other processes an OSError with the same message.

    >>> all_or_none(lambda: "written")
    'written'
    """
    if not several():
        return act()
    value, error = None, None
    try:
        value = act()
    except Exception as raised:
        error = raised
    told = gathered(None if error is None else str(error))
    if error is not None:
        raise error
    for failed in told:
        if failed is not None:
            raise OSError(failed)
    return cast(T, value)


def highest(*values: int) -> tuple[int, ...]:
    """Return the highest of each value over all processes; with one process, the values themselves.

    All processes must call this, in the same order, with the same number of values. The values are exchanged between
    CPUs, without waiting for a device.

    >>> highest(0, 3)
    (0, 3)
    """
    if not several() or not values:
        return values
    agreed = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=_group(dist.group.WORLD))
    return tuple(agreed.tolist())


def gathered(value: T) -> list[T]:
    """Return the value of every process, by rank. All must call this, in the same order. The values are pickled.

    >>> gathered("mine")
    ['mine']
    """
    if not several():
        return [value]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, value, group=_group(dist.group.WORLD))
    return told


def several() -> bool:
    """Tell whether there are several processes.

    >>> several()
    False
    """
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def leave_process_group() -> None:
    """Leave the process group for good, if there is one; called when nothing is communicated any more.

    The threads of a gloo group end with the last reference to it. A thread that is still at work when the interpreter
    ends aborts the process ("terminate called without an active exception", torch 2.13), and torch's own
    `destroy_process_group` drops only one reference: DistributedDataParallel has others, and so has this module.

    >>> leave_process_group()
    """
    go_alone()
    if dist.is_available() and dist.is_initialized():
        _group.cache_clear()
        gc.collect()
        dist.destroy_process_group()


@cache
def _group(world: Any) -> Any:
    """Return a group of all processes that can send objects in CPU memory, which NCCL's group cannot."""
    return dist.new_group(backend="gloo", timeout=patience())


def _attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return in the main process what `make` returns or raises; an uncaught error would leave the others waiting."""
    if dist.get_rank() != 0:
        return None, None
    try:
        return make(), None
    except Exception as error:
        return None, error


def _received(told: tuple[Any, str | None], error: Exception | None) -> Any:
    if error is not None:
        raise error
    value, failed = told
    if failed is not None:
        raise ValueError(failed)
    return value
