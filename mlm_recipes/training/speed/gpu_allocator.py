"""Lets torch's memory on a CUDA GPU grow in place, since the batches of a run have many shapes."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

#: torch's variable, and its earlier name.
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def use_expandable_segments(environment: MutableMapping[str, str] | None = None) -> None:
    """Ask torch for expandable segments on CUDA, unless the environment asks for something else.

    Without them each shape of a batch may get memory of its own, whose gaps no other shape fits into
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf). torch reads
    this when it allocates GPU memory for the first time; it has them on Linux only.

    >>> environment = {}
    >>> use_expandable_segments(environment)
    >>> environment in ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, {})
    True
    """
    environment = os.environ if environment is None else environment
    if sys.platform == "linux" and not any(name in environment for name in _NAMES):
        environment[_NAMES[0]] = "expandable_segments:True"
