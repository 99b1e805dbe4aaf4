"""What happens when a process fails is in tests/test_out_of_memory.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_three_processes_average_as_ddp_does_without_a_hook():
    """With the hook bit for bit (a third is not exact in binary); by hand up to rounding; unused ones stay None."""
    launch = ["--nproc_per_node", "3", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, str(ROOT / "tests/three_processes.py")],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
