"""Processes that torchrun has started again: they meet under keys of their own."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist


def restarted() -> bool:
    """Tell whether torchrun (`--max-restarts`) has started this process again.

    >>> restarted()
    False
    """
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def rejoin_process_group(backend: str, timeout: int) -> None:
    """Make the process group of processes that torchrun has started again; else leave it to who makes it ever.

    torchrun keeps its store from one start to the next, with the addresses of the processes that are gone (torch 2.13,
    `--rdzv_backend c10d`): gloo then waits for these. Here each start has a prefix. `timeout` is in seconds.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (restarted() and shared) or dist.is_initialized():
        return
    address, port, size = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), int(os.environ["WORLD_SIZE"])
    patience = timedelta(seconds=timeout)
    c10d: Any = dist  # whose stores have no types
    store = c10d.TCPStore(address, port, size, is_master=False, timeout=patience)
    mine = c10d.PrefixStore(f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=mine, rank=int(os.environ["RANK"]), world_size=size, timeout=patience)
