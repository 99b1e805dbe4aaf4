"""Ends the worker processes that a data loader keeps between epochs."""

from __future__ import annotations

from typing import Any


def end_workers(loader: Any) -> None:
    """End the workers of a `torch.utils.data.DataLoader`, if it keeps any; iterating over it again starts new ones.

    Left to Python's garbage collector, each takes five seconds, and is then killed: the collector closes the queues
    to the workers before the loader can tell them to end (seen with torch 2.11 and 2.13). `loader` may be the one that
    accelerate makes of it.

    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader([1, 2], num_workers=1, persistent_workers=True)
    >>> first = list(loader)
    >>> end_workers(loader)
    >>> loader._iterator is None, list(loader) == first
    (True, True)
    >>> end_workers(loader)
    """
    loader = getattr(loader, "base_dataloader", loader)
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None
