"""Seconds of Muon's update of a model's matrices: a loop over them, and all of one shape together.

`python benchmarks/muon.py`. Turn by turn; the ratio is the median over the turns. On a CPU, one thread and the
processor's time, so that other programs disturb it little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from result_file import add_output_argument, write_result

from mlm_recipes.training.optimization import muon
from mlm_recipes.training.optimization.orthogonal import orthogonal

#: Of a layer: mini is a ModernBERT, the others are BERTs.
LAYERS = {
    "mini": 4 * [(768, 256), (256, 256), (1024, 256), (256, 512)],
    "6 x 384": 6 * [*4 * [(384, 384)], (1536, 384), (384, 1536)],
    "12 x 768": 12 * [*4 * [(768, 768)], (3072, 768), (768, 3072)],
}


def loop(matrices: list[torch.nn.Parameter], dtype: torch.dtype) -> Callable[[], None]:
    """Return a step of Muon, one matrix after the other, as it is usually written."""
    averages = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step() -> None:
        for matrix, average in zip(matrices, averages, strict=True):
            assert matrix.grad is not None
            average.lerp_(matrix.grad, 0.05)
            update = orthogonal(matrix.grad.lerp(average, 0.95), dtype)
            matrix.mul_(1 - 1e-3 * 0.01).add_(update, alpha=-1e-3 * 0.2 * max(matrix.shape) ** 0.5)

    return step


def together(matrices: list[torch.nn.Parameter], dtype: torch.dtype, at_once: int) -> Callable[[], None]:
    """Return a step of MuonWithAdamW for `at_once` matrices together."""
    other = torch.nn.Parameter(torch.zeros(1, device=matrices[0].device))
    groups = [{"params": matrices, "weight_decay": 0.01}], [{"params": [other]}]
    optimizer = muon.MuonWithAdamW(*groups, lr=1e-3, fused=True, dtype=dtype)

    def step() -> None:
        with mock.patch.object(muon, "matrices_at_once", return_value=at_once):
            optimizer.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    if device == "cpu":
        started = time.process_time()
        step()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", choices=LAYERS, default=[*LAYERS])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    add_output_argument(parser)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        for dtype in options.dtypes:
            torch.manual_seed(0)
            matrices = [torch.nn.Parameter(torch.randn(shape, device=device) * 0.02) for shape in LAYERS[size]]
            for matrix in matrices:
                matrix.grad = torch.randn_like(matrix)
            exact = getattr(torch, dtype)
            steps = {"loop": loop(matrices, exact)}
            steps |= {"one at a time": together(matrices, exact, 1), "together": together(matrices, exact, 1000)}
            times = [{name: seconds(step, device) for name, step in steps.items()} for _ in range(options.turns + 1)]
            row: dict[str, Any] = {"size": size, "dtype": dtype, "turns": options.turns}
            row["seconds"] = {name: statistics.median(turn[name] for turn in times[1:]) for name in steps}
            row["of loop"] = {
                name: statistics.median(turn[name] / turn["loop"] for turn in times[1:]) for name in steps
            }
            rows.append(row)
            figures = "  ".join(f"{name} {row['seconds'][name]:.3f} s ({row['of loop'][name]:.2f})" for name in steps)
            print(f"{size:10}{dtype:10}{figures}", flush=True)
    write_result(options.output, "muon", {"rows": rows}, device)


if __name__ == "__main__":
    main()
