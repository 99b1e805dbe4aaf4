"""A torchrun launcher that stands for a host: started, watched by what it prints, and lost as a machine is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from workload import ROOT

#: Seconds that anything may take; a busy machine needs many.
PATIENCE = 1800.0

#: Seconds that a launcher waits for another host before it goes on without; torchrun's default is 30.
LAST_CALL = 10

#: What a run prints of a step, without a terminal.
STEP = re.compile(r"\bstep (\d+)/\d+ ")


def environment() -> dict[str, str]:
    """Return what a process is started with: this checkout's package, and one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}


class Command:
    """A process that runs `python -m ...`, with what it prints in a file."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments], stdout=file, stderr=file, env=environment(), start_new_session=True
            )

    def said(self, since: int = 0) -> str:
        """Return what was printed, without the first `since` bytes."""
        return self.log.read_bytes()[since:].decode("utf-8", errors="replace")

    def wait_for(self, found: Callable[[], bool], what: str) -> float:
        """Return how many seconds passed until `found()`. Raises: RuntimeError if the process ends before."""
        began = time.monotonic()
        while not found():
            ended = self.process.poll() is not None and not found()
            if ended or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"no {what}, exit code {self.process.poll()}:\n{self.said()[-3000:]}")
            time.sleep(0.001)
        return time.monotonic() - began

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(PATIENCE)

    def family(self) -> list[int]:
        """Return the ids of the process and of all that it and its children have started."""
        found = [self.process.pid]
        for pid in found:  # grows meanwhile
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    found += map(int, children.read_text().split())
        return found

    def kill(self) -> int:
        """Kill the process and all it has started at once, as a power cut does; return how many they were.

        torchrun gives each of its processes a session of its own: killing its process group would leave them.
        """
        family = self.family()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # nobody sees another one die
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait()
        return len(family)


class Host(Command):
    """A launcher with one process, that trains with those of other hosts."""

    def __init__(self, number: int, port: int, launch: Sequence[str], arguments: Sequence[str], log: Path) -> None:
        settings = f"is_host={int(number == 0)},last_call_timeout={LAST_CALL}"  # the first one keeps the store of all
        super().__init__(
            [
                *("torch.distributed.run", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "run"),
                *("--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_conf", settings, *launch),
                *("-m", "mlm_recipes", *arguments),
            ],
            log,
        )

    def step(self) -> int:
        """Return the last step that was printed, or 0."""
        steps = STEP.findall(self.said())
        return int(steps[-1]) if steps else 0
