"""What happens when a process fails is in tests/test_out_of_memory.py."""

from __future__ import annotations

import pytest
from conftest import ROOT
from launched import run_together


@pytest.mark.slow
def test_three_processes_average_as_ddp_does_without_a_hook():
    """With the hook bit for bit (a third is not exact in binary); by hand up to rounding; unused ones stay None."""
    run_together(3, ROOT / "tests/three_processes.py")
