"""Lets accelerate start FSDP on a CPU.

torch shards on a CPU with gloo, but accelerate 1.15 starts FSDP on accelerators only, and the library refuses it on a
CPU.
"""

from __future__ import annotations

import os

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def as_if_on_accelerators() -> None:
    """Let accelerate take this process for one that has an accelerator, if FSDP is asked for."""
    plain = AcceleratorState.__init__

    def init(self, *args, **kwargs):
        if kwargs.get("fsdp_plugin") is not None or os.environ.get("ACCELERATE_USE_FSDP") == "true":
            state = PartialState._shared_state
            if state.get("distributed_type") == DistributedType.MULTI_CPU:
                state["distributed_type"] = DistributedType.MULTI_XPU
        plain(self, *args, **kwargs)

    AcceleratorState.__init__ = init
