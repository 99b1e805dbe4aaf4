"""Processes that torchrun has restarted, and the process group that the processes of each start form."""

from __future__ import annotations

import os
from datetime import timedelta

import torch.distributed as dist

from .failing_together import watch
from .meeting import meet, met, started_together


def restarted() -> bool:
    """Tell whether torchrun has started the processes of this run before: `--max-restarts`, or a machine came or left.

    All processes get the same answer, although torchrun's own count differs between its launchers.

    >>> restarted()
    False
    """
    meeting = met()
    if meeting is not None:
        return meeting.start > 1
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def join_process_group(backend: str | None, seconds: int, sharded: bool = False) -> None:
    """Meet the other processes of this start, if there are any, and form the process group with them.

    Here, because transformers does not pass `ddp_timeout` on for a CPU (5.23), and because torchrun's store keeps the
    addresses of processes that are gone, for which gloo would wait (torch 2.13).

    Args:
        backend: torch's name of the group's backend, such as gloo; None: leave the group to accelerate.
        seconds: how long to wait for another process, here and whenever the processes do something together.
        sharded: leave the group of the first start to FSDP or DeepSpeed, which choose its backend.

    Raises: NotMetError if some do not come.
    """
    if dist.is_initialized() or not started_together():
        return
    meeting = meet(float(seconds))
    watch(meeting, float(seconds))
    size = len(meeting.processes)
    if size > 1 and backend is not None and not (sharded and meeting.start == 1):
        rank, patience = meeting.me.rank, timedelta(seconds=seconds)
        dist.init_process_group(backend, store=meeting.store, rank=rank, world_size=size, timeout=patience)
