"""Facts about a run for metrics.json: its command line, peak memory, and share of the machine's limit."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..metrics_file import MachineLimit, PeakMemory
from ..model.linear_operations import linear_operations
from ..sources.credentials import HIDDEN, without_credentials
from ..sources.escaping import shell

#: Flags whose value is secret, as --flag value or --flag=value.
_SECRET = re.compile(r"^--[\w-]*(token|secret|password|api_key)[\w-]*", re.IGNORECASE)


def command_line(argv: Sequence[str] | None = None) -> str | None:
    """Return the command line that started this run, quoted for a shell; None if it was not this library's.

    It contains what the user typed, without the program's location, tokens and passwords. `argv` is by default that of
    this process.

    >>> command_line(["/opt/venv/bin/mlm-recipes", "train", "--corpus", "my notes.txt", "--hub_token=abc"])
    "mlm-recipes train --corpus 'my notes.txt' '--hub_token=***'"
    >>> command_line(["a_script.py"])
    """
    program, *given = sys.argv if argv is None else argv
    path = Path(program)
    if path.parts[-2:] == ("mlm_recipes", "__main__.py"):
        name = ["python", "-m", "mlm_recipes"]
    elif path.stem == "mlm-recipes":
        name = ["mlm-recipes"]
    else:
        return None
    kept: list[str] = []
    for word in given:
        if kept and _SECRET.match(kept[-1]) and "=" not in kept[-1] and not word.startswith("--"):
            word = HIDDEN
        elif _SECRET.match(word) and "=" in word:
            word = f"{word.split('=')[0]}={HIDDEN}"
        kept.append(without_credentials(word))
    return shell(*name, *kept)


def peak_memory(device: torch.device) -> PeakMemory | None:
    """Return this process's peak memory so far: `bytes`, and `of` what; None if the system does not count it.

    >>> sorted(peak_memory(torch.device("cpu")) or {"bytes": 0, "of": "process"})
    ['bytes', 'of']
    """
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "gpu"}
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": peak if sys.platform == "darwin" else peak * 1024, "of": "process"}


class Product(NamedTuple):
    """A linear module's part of training: where it is, its weights, and the operations for each of them and a token."""

    in_body: bool
    weights: int
    operations: int


def products_of(model: torch.nn.Module) -> list[Product]:
    """Return what training the model's linear modules takes; to be asked before an adapter is merged into it."""
    encoder = {id(module) for module in model.base_model.modules()}  # type: ignore[union-attr]
    found = linear_operations(model).items()
    return [Product(id(module) in encoder, module.weight.numel(), operations) for module, operations in found]


def machine_limit(
    flops: float, device: torch.device, seconds: float, processes: int, dtype: torch.dtype
) -> MachineLimit:
    """Return what metrics.json has under `train.machine_limit`: the run's and the machine's operations per second.

    Args:
        flops: the operations of training, over all processes.
        device: where the machine is measured.
        seconds: the duration of training, including evaluation during it, so the share may be too low but not too high.
            The machine is measured for a fiftieth of this, and 0.2 s at most.
        processes: the number of processes, each assumed to have the rate measured here.
        dtype: the dtype of the products.
    """
    return {
        "flops_per_second": flops / seconds,
        "matrix_flops_per_second": processes * matrix_rate(device, dtype, min(0.2, seconds / 50)),
        "dtype": str(dtype).removeprefix("torch."),
    }


def training_flops(products: Sequence[Product], tokens: int, masked: float, head_first: float = 0.0) -> float:
    """Return the minimum number of operations that training needs: six per matrix weight and token.

    Args:
        products: those of the model.
        tokens: the real tokens in training, over all processes; padding is not counted.
        masked: how many of these the head was needed for.
        head_first: the share of the steps in which only the head was trained.

    Two forward, four backward (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361), fewer for frozen weights
    (`mlm_recipes.model.linear_operations`), and in the steps that train only the head. The head's weights count for
    masked tokens only. Attention between tokens is not counted, although it is considerable for long rows.

    >>> model = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
    >>> model.base_model = model[0]
    >>> training_flops(products_of(model), tokens=3, masked=1)
    4200.0
    >>> training_flops(products_of(model), tokens=3, masked=1, head_first=0.5)
    2900.0
    """
    total = 0.0
    for each in products:
        meanwhile = 2 if each.in_body else 4  # nothing backward; at least one of the two gradients
        operations = each.operations + head_first * (min(meanwhile, each.operations) - each.operations)
        total += operations * each.weights * (tokens if each.in_body else masked)
    return total


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Return the operations per second of a product of two square matrices: the fastest within `seconds`.

    >>> matrix_rate(torch.device("cpu"), torch.float32, seconds=0.01) > 1e6
    True
    """
    size = 1024 if device.type == "cpu" else 8192  # enough to keep either busy
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - started)
    return 2.0 * size**3 / min(times)


def device_name(device: torch.device) -> str:
    """Return a device's name for a sentence.

    >>> device_name(torch.device("cpu"))
    'the CPU'
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "the CPU" if device.type == "cpu" else f"the {device.type} device"
