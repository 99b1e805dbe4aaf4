"""What processes tell each other: what the main one has read, whether all have succeeded, what any has been sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")


def from_main(make: Callable[[], T]) -> T:
    """Return in every process what `make` returns in the main one; it is called nowhere else.

    All processes must call this, in the same order; with one process it is `make()`. What is sent is pickled.

    Raises: in the main process what `make` raises, in the others a ValueError that says the same.

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
    """Return in each process its item of the list that `make` returns in the main one: an item for each process.

    All else as `from_main`.

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
    """Call `act` in every process and return what it returns; where it raises in one, it raises in all.

    All processes must call this, in the same order. What goes wrong in one alone would have the others wait for it.

    Raises: what `act` raises, in the others an OSError that says the same.

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

    All processes must call this, in the same order, with as many values. The values travel between the CPUs: no
    device is waited for.

    >>> highest(0, 3)
    (0, 3)
    """
    if not several() or not values:
        return values
    agreed = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=_group(dist.group.WORLD))
    return tuple(agreed.tolist())


def gathered(value: T) -> list[T]:
    """Return the value of every process, by rank. All must call this, in the same order. What is sent is pickled.

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


@cache
def _group(world: Any) -> Any:
    """Return a group of all processes that takes objects in a CPU's memory, which NCCL's does not."""
    # The others wait for as long as the main process reads; if it dies, the connection breaks, and they notice at once.
    return dist.new_group(backend="gloo", timeout=timedelta(days=7))


def _attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return what `make` returns in the main process, or what it raises: the others would wait for ever."""
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
