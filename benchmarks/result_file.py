"""The JSON that a benchmark leaves in benchmarks/results: what was measured, when, on what, with which versions."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

import mlm_recipes

#: What has torch and its libraries do without some of the processor's instructions.
INSTRUCTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "tokenizers")


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the flag --output: the folder its JSON goes to."""
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="the JSON's folder")


def result_path(folder: Path, name: str, device: str = "cpu", by_instructions: bool = False) -> Path:
    """Return where today's figures of the benchmark `name` lie in `folder`.

    `by_instructions`: whether the name says which instructions torch used, such as avx2.
    """
    where = f"{os.cpu_count()}cores" if device == "cpu" else "gpu"
    if by_instructions and device == "cpu":
        where = f"{torch.backends.cpu.get_cpu_capability().lower()}-{where}"
    return folder / f"{name}_{platform.machine()}-{where}_{datetime.date.today().isoformat()}.json"


def write_result(
    folder: Path, name: str, measured: dict[str, Any], device: str = "cpu", by_instructions: bool = False
) -> Path:
    """Write the figures of the benchmark `name` into `folder`, print where, and return the path.

    The file has `date`, `machine` and `versions`, and then the keys of `measured`.
    """
    path = result_path(folder, name, device, by_instructions)
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "processor": platform.machine() if device == "cpu" else torch.cuda.get_device_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": device,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            # What was set, so that it is plain which of them the processor was told to leave alone.
            "settings": {name: os.environ[name] for name in INSTRUCTIONS if name in os.environ},
        },
        # Of what was imported: a bare GPU machine may have torch and transformers alone.
        "versions": {"python": platform.python_version(), "mlm-recipes": mlm_recipes.__version__}
        | {package: sys.modules[package].__version__ for package in PACKAGES if package in sys.modules},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts | measured, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {path}")
    return path
