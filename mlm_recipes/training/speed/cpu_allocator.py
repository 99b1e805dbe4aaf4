"""Keeps memory that a step has freed in the process, so that the next step does not request it again."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

#: No allocation gets a mapping of its own, and the heap is not trimmed.
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}

#: The values that glibc itself reaches once a process has freed something large.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within `with`, let the process keep the memory that it frees; return it to the system at the end.

    glibc returns a tensor of more than 32 MiB to the system when it is freed. The next one of that size gets new pages,
    which the system zeroes one by one when they are first touched; this took 4 to 8% of a step in float32. Nothing
    happens without glibc, or if its environment variables are set.

    >>> with kept_memory():
    ...     step = [0.0] * 1000
    """
    asked = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if asked or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL("libc.so.6")
    for name, value in _KEPT.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
