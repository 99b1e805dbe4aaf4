"""How benchmarks/gpu.py reads the clock, and finds what waits for the GPU."""

from __future__ import annotations

import collections
import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from gpu_cases import Case
from transformers import TrainerCallback


def synchronize(device: torch.device) -> float:
    """Wait for the device, and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class SynchronisationWatch:
    """Finds the lines of code that wait for the GPU."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._catching: Any = None
        self._caught: Any = []

    def start(self) -> None:
        self._catching = warnings.catch_warnings(record=True)
        self._caught = self._catching.__enter__()
        warnings.simplefilter("always")
        if self._gpu:
            torch.cuda.set_sync_debug_mode("warn")

    def stop(self) -> dict[str, int]:
        """Return how often each line waited, by `file:line`."""
        if self._gpu:
            torch.cuda.set_sync_debug_mode("default")
        self._catching.__exit__(None, None, None)
        self._catching = None
        return places(self._caught)

    def close(self) -> None:
        """Stop, if it has not been stopped."""
        if self._catching is not None:
            self.stop()


def places(caught: Iterable[warnings.WarningMessage]) -> dict[str, int]:
    """Return how often each line was warned of a synchronising operation, paths relative to the packages' folder."""
    found = collections.Counter(
        f"{re.split('site-packages/|dist-packages/', each.filename)[-1]}:{each.lineno}"
        for each in caught
        # Switching the mode on warns that it is a prototype.
        if "synchronizing" in str(each.message) and "prototype" not in str(each.message)
    )
    return dict(found.most_common())


class Stopwatch(TrainerCallback):
    """Reads the clock after the warm-up and after each window, then watches what waits for the GPU in one step.

    The GPU is waited for only when the clock is read, so a window's steps follow each other as in any run.
    """

    #: Steps after the last window.
    AFTER = 2

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        self.began = time.perf_counter()
        self.readings: list[float] = []
        self.peak_bytes = 0
        self.waits: dict[str, int] = {}
        #: Called at the end, while the trainer is still training.
        self.then: Callable[[], None] = lambda: None
        self._watch = SynchronisationWatch(device)

    def start(self) -> None:
        """Note the time right before training."""
        self.began = synchronize(self.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        case, step = self.case, state.global_step
        if case.warm_up <= step <= case.steps and (step - case.warm_up) % case.window == 0:
            self.readings.append(synchronize(self.device))
        if step == case.steps:
            if self.device.type == "cuda":
                self.peak_bytes = torch.cuda.max_memory_allocated()
            self._watch.start()
        elif step == case.steps + 1:
            self.waits = self._watch.stop()
            self.then()

    def close(self) -> None:
        """Leave nothing switched on if training has failed."""
        self._watch.close()

    def times(self) -> dict[str, Any]:
        """Return the seconds until the warm-up ended, compiling included, and those of each window."""
        return {
            "warm_up_steps": self.case.warm_up,
            "warm_up_seconds": self.readings[0] - self.began,
            "window_seconds": _differences(self.readings),
        }


def time_loop(step: Callable[[int], None], case: Case, device: torch.device, warm_up: int) -> dict[str, Any]:
    """Return the same of a loop that calls `step` with the number of each step."""
    began = synchronize(device)
    for number in range(warm_up):
        step(number)
    readings = [synchronize(device)]
    for _ in range(case.windows):
        for number in range(case.window):
            step(number)
        readings.append(synchronize(device))
    return {
        "warm_up_steps": warm_up,
        "warm_up_seconds": readings[0] - began,
        "window_seconds": _differences(readings),
    }


def _differences(readings: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(readings)]
