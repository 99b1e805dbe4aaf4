"""Memory that a step has freed stays with the process, so that the next step need not fetch it anew."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

#: Nothing is fetched by itself, and the heap is not cut back.
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}

#: What glibc's own values come to once a process has freed something large.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the process keep what it frees, and give it back at the end.

    glibc hands a tensor of more than 32 MiB back to the system when it is freed, and the next of its size arrives as
    pages that the system fills with zeros one by one as they are first touched, which took 4 to 8% of a step in
    float32. Where there is no glibc, or its environment variables say how it should be, nothing happens.

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
