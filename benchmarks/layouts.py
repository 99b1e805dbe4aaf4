"""Processes that train together on this machine's CPU, in one of several layouts, under torchrun's own launcher.

Launchers and processes are forked from one that has imported everything, so that a process costs a second and not ten.
torchrun itself is a command line around `elastic_launch`, which is called here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Layout:
    """How many launchers there are, each standing for a host, and how many processes each of them starts.

    With `fsdp`, the processes share the weights (FSDP2).
    """

    hosts: int = 1
    processes: int = 1
    fsdp: bool = False

    @property
    def all_processes(self) -> int:
        return self.hosts * self.processes


def free_port() -> int:
    """Return a port of the loopback device that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_in(
    layout: Layout, work: Callable[..., None], arguments: tuple[Any, ...], log: Path, seconds: float = 1800.0
) -> None:
    """Call `work` with the arguments in every process of a layout; a single one has no launcher.

    What the processes print goes to files whose names begin as `log`.

    Raises: RuntimeError, with the end of what was printed, if a process fails or takes longer than `seconds`.
    """
    port = free_port()
    logs = [log.with_name(f"{log.name}-{host}.log") for host in range(layout.hosts)]
    hosts = [
        FORK.Process(target=_host, args=(layout, host, port, work, arguments, log)) for host, log in enumerate(logs)
    ]
    for host in hosts:
        host.start()
    until = time.monotonic() + seconds
    for host in hosts:
        host.join(max(0.0, until - time.monotonic()))
    codes = [host.exitcode for host in hosts]
    for host in hosts:
        if host.is_alive():
            os.kill(host.pid or 0, signal.SIGTERM)  # a launcher ends its processes too
            host.join(60)
    if any(codes):
        said = "\n".join(each.read_text("utf-8", errors="replace")[-3000:] for each in logs)
        raise RuntimeError(f"{layout} ended with {codes}:\n{said}")
    if None in codes:
        raise RuntimeError(f"{layout} did not end within {seconds:.0f} s: {codes}")


def _host(
    layout: Layout, number: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...], log: Path
) -> None:
    """Be a launcher, or the only process; never return."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    code = 1
    try:
        if layout.all_processes == 1:
            work(*arguments)
        else:
            config = LaunchConfig(
                min_nodes=layout.hosts, max_nodes=layout.hosts, nproc_per_node=layout.processes, run_id="layout",
                rdzv_backend="c10d", rdzv_endpoint=f"127.0.0.1:{port}", rdzv_configs={"is_host": number == 0},
                max_restarts=0, start_method="fork",
            )  # fmt: skip
            elastic_launch(config, work)(*arguments)
        code = 0
    except BaseException:  # also torchrun's own, and a stop: this process was forked, and must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
