"""Processes that train together, as torchrun starts them on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch


def run_together(processes, *command, cwd=None, code=0, timeout=300):
    """Run a script, or `-m` and a module, with its arguments in several processes; return what they printed.

    Each has one thread, and can import what this process can. Fails unless torchrun ends with the exit code `code`.
    """
    launch = ["--nproc_per_node", str(processes), "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, *map(str, command)],
        capture_output=True, text=True, cwd=cwd, check=False, timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-4000:]
    return done


def found_by_each(processes, folder):
    """Return what each process has saved in `folder` as found-RANK.pt: tensors, numbers and tuples of our own."""
    return [torch.load(Path(folder) / f"found-{rank}.pt", weights_only=True) for rank in range(processes)]
