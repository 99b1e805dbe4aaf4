"""A few of the kills and signals of `make torture`, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_runs_that_are_killed_and_signalled_go_on_to_the_same_weights():
    script = ROOT / "benchmarks/torture.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    for check in ("kills_one_process", "kills_two_processes", "not_finite", "signals"):
        assert check in done.stdout
