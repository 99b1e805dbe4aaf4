"""Only tests marked `gpu` see a GPU: the bounds of the others are a CPU's, and their processes would share one card."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence

#: CUDA and ROCm read these once, when a process first looks for a device; importing transformers may do that. Processes
#: that tests start inherit them. Metal has no such variable.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

#: No device has this number.
NONE = "-1"

#: Set where GPUs may be seen, for the workers of pytest-xdist and the processes that tests start.
SHOWN = "MLM_RECIPES_TESTS_SEE_GPUS"


def gpu_tests_selected(arguments: Sequence[str]) -> bool:
    """Tell whether pytest's `-m` asks for the tests marked `gpu`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", dest="expression", default="")
    expression = parser.parse_known_args(list(arguments))[0].expression
    return re.search(r"(?<!\bnot )\bgpu\b", expression) is not None


def hide_gpus() -> None:
    """Hide GPUs from this process and those it starts, unless its command line selects the tests marked `gpu`.

    To be called before transformers is imported.
    """
    if gpu_tests_selected([*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *sys.argv[1:]]):
        os.environ[SHOWN] = "1"
    if SHOWN not in os.environ:
        os.environ |= dict.fromkeys(VARIABLES, NONE)


def why_skipped(marked_gpu: bool) -> str | None:
    """Return why a test cannot run in this process, or None if it can."""
    shown = SHOWN in os.environ
    if marked_gpu and not shown:
        return "GPUs are hidden from this process: run `make test-gpu`, or pytest with -m gpu"
    if shown and not marked_gpu:
        return "this process can see GPUs: leave gpu out of -m"
    return None
