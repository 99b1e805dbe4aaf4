"""Counts what a step of benchmarks/gpu.py asks of CUDA: launches, graphs, waits, and copies to the host.

Only after everything has been timed: once torch's profiler has been used, a process is slower at launching kernels,
even when the profiler is no longer in use (https://github.com/pytorch/pytorch/issues/144455).
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

#: Steps that are taken under the profiler.
PROFILED = 2

# Calls of CUDA's runtime and driver, as torch.profiler names them; a suffix such as _v7000 is removed first.
_LAUNCHES = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cudaLaunchCooperativeKernel",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cuLaunchCooperativeKernel",
)
_GRAPHS = ("cudaGraphLaunch", "cuGraphLaunch")
_WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cuEventSynchronize",
)


def calls_a_step(counts: Iterable[tuple[str, int]], steps: int = PROFILED) -> dict[str, Any]:
    """Return the launches, graph launches, waits and copies to the host of a step, from the profiler's counts."""
    calls: collections.Counter[str] = collections.Counter()
    for name, count in counts:
        calls[re.sub(r"(_ptsz|_ptds)?(_v\d+)?$", "", name)] += count
    if calls["cudaDeviceSynchronize"]:
        calls["cudaDeviceSynchronize"] -= 1  # the profiler's own, when it stops
    return {
        "launches": sum(calls[name] for name in _LAUNCHES) / steps,
        "graph_launches": sum(calls[name] for name in _GRAPHS) / steps,
        "waits": sum(calls[name] for name in _WAITS) / steps,
        "copies_to_host": sum(count for name, count in calls.items() if name.startswith("Memcpy DtoH")) / steps,
        "calls": {name: count / steps for name, count in sorted(calls.items()) if name.startswith(("cu", "Mem"))},
    }


class CallCounter(TrainerCallback):
    """Profiles a few steps after the warm-up."""

    #: Steps after the warm-up.
    AFTER = PROFILED + 1

    def __init__(self, warm_up: int, device: torch.device) -> None:
        self.warm_up = warm_up
        self.calls: dict[str, Any] = {}
        gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self._profile = profile(activities=[ProfilerActivity.CPU, *gpu])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm_up:
            self._profile.start()
        elif state.global_step == self.warm_up + PROFILED:
            self._profile.stop()
            self.calls = calls_a_step((event.key, event.count) for event in self._profile.key_averages())
