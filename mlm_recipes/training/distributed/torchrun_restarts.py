"""Processes that torchrun has restarted: they form a process group under keys of their own."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist


def restarted() -> bool:
    """Tell whether torchrun (`--max-restarts`) has restarted this process.

    >>> restarted()
    False
    """
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def rejoin_process_group(backend: str, timeout: int) -> None:
    """Create the process group if torchrun has restarted this process; otherwise do nothing.

    torchrun keeps its store across restarts, with the addresses of processes that are gone (torch 2.13,
    `--rdzv_backend c10d`), and gloo then waits for them. Here each restart has a key prefix of its own. `timeout` is
    in seconds.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (restarted() and shared) or dist.is_initialized():
        return
    address, port, size = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), int(os.environ["WORLD_SIZE"])
    patience = timedelta(seconds=timeout)
    c10d: Any = dist  # its stores have no type annotations
    store = c10d.TCPStore(address, port, size, is_master=False, timeout=patience)
    mine = c10d.PrefixStore(f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=mine, rank=int(os.environ["RANK"]), world_size=size, timeout=patience)
