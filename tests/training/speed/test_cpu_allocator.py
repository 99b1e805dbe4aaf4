"""Freed memory is kept within `with`, and returned afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from mlm_recipes.training.speed.cpu_allocator import kept_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system's memory is not glibc's")

FAULTS = """
import resource, sys, torch
from mlm_recipes.training.speed.cpu_allocator import kept_memory

def faults():  # of a tensor of 64 MiB, which has 16,384 pages, made and freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

torch.zeros(2**24)
first = faults()
with kept_memory():
    torch.zeros(2**25)  # larger: of the same size it might not take the place of one that is freed, for its alignment
    within, held = faults(), resident()
print(first, within, held - resident(), faults())
"""


@pytest.mark.slow
@glibc
def test_pages_are_requested_once_and_returned():
    # In a process of its own, with none of this one's settings, and without huge pages.
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    first, within, given_back, afterwards = map(int, found.split())
    assert within < 100  # of 16,384
    assert first > 10 * within
    assert given_back > 2**25
    assert afterwards > 10 * within


@glibc
def test_memory_is_returned_after_an_error(monkeypatch):
    calls = []

    class Libc:
        def mallopt(self, name, value):
            calls.append((name, value))

        def malloc_trim(self, pad):
            calls.append("trimmed")

    monkeypatch.setattr("ctypes.CDLL", lambda name: Libc())
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
    *settings, last = calls
    assert last == "trimmed"
    names = [name for name, _ in settings]
    within = settings[: names.index(names[0], 1)]  # the first name comes again where they are put back
    assert dict(within).keys() <= dict(settings[len(within) :]).keys()


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("there is no such library"))
    with kept_memory():
        assert torch.ones(2).sum() == 2
