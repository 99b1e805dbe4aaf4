"""How much of what the machine can multiply a run has used."""

from __future__ import annotations

import time
from typing import Any

import torch


def machine_limit(
    model: torch.nn.Module, tokens: int, masked: float, seconds: float, processes: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Return what metrics.json has under `train.machine_limit`: the run's and the machine's operations a second.

    Args:
        model: what was trained.
        tokens: real tokens in training, of all processes; padding is waste and not counted.
        masked: how many of them the head was needed for.
        seconds: what training took, evaluation in between too: the share is rather too low than too high. The machine
            is measured for a fiftieth of that, and 0.2 s at most.
        processes: how many trained, each with a rate as is measured here.
        dtype: what the products were computed in.
    """
    device = next(model.parameters()).device
    return {
        "flops_per_second": model_flops(model, tokens, masked) / seconds,
        "matrix_flops_per_second": processes * matrix_rate(device, dtype, min(0.2, seconds / 50)),
        "dtype": str(dtype).removeprefix("torch."),
    }


def model_flops(model: torch.nn.Module, tokens: int, masked: float) -> float:
    """Return the operations that training needs at least: six for each weight of a matrix, and token.

    Two forward, four backward (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361). The head's on masked tokens
    only; what attention does between tokens is not counted, which for long rows is much.

    >>> model = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
    >>> model.base_model = model[0]
    >>> model_flops(model, tokens=3, masked=1)
    4200.0
    """
    encoder = {id(module) for module in model.base_model.modules()}  # type: ignore[union-attr]
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    body = sum(module.weight.numel() for module in linear if id(module) in encoder)
    head = sum(module.weight.numel() for module in linear if id(module) not in encoder)
    return 6.0 * (body * tokens + head * masked)


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Return how many operations a second a product of two square matrices gets, the fastest of `seconds` of them.

    >>> matrix_rate(torch.device("cpu"), torch.float32, seconds=0.01) > 1e6
    True
    """
    size = 1024 if device.type == "cpu" else 8192  # enough for each to be busy
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - started)
    return 2.0 * size**3 / min(times)
