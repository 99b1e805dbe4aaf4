"""How a run behaves with more processes, more accumulation and more text: `make bench-scale`.

One to four processes of torchrun on this machine's CPU compute the same global batches, so their losses should agree.
More processes than cores share these, so what counts is the processor time of all of them for the same step, which
other work on the machine disturbs little. Text of 1, 10 and 100 times the size shows what a run costs before its first
step, and in memory. The JSON goes to benchmarks/results, the plot to docs/images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from result_file import add_output_argument, write_result
from scale_plot import draw
from workload import ROOT, TEXT, larger_text

GLOBAL_BATCH = 16
PROCESSES, ACCUMULATION, COPIES = (1, 2, 4), (1, 2, 4), (1, 10, 100)
IMAGE = ROOT / "docs/images/scale.svg"


def measure(text: Path, processes: int, accumulation: int, steps: int, cache: Path) -> dict[str, Any]:
    """Train in `processes` processes, and return the times, the memory and the losses."""
    batch = GLOBAL_BATCH // (processes * accumulation)
    with tempfile.TemporaryDirectory() as folder:
        worker = [str(Path(__file__).parent / "scale_worker.py"), str(text), str(batch), str(accumulation), str(steps)]
        start = [sys.executable]
        if processes > 1:
            start += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--rdzv_backend", "c10d",
                      "--rdzv_endpoint", "127.0.0.1:0"]  # fmt: skip
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        settings = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path,
                    "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
        done = subprocess.run([*start, *worker, folder], env=os.environ | settings, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{processes} processes ended with {done.returncode}:\n{done.stderr[-4000:]}")
        found = [json.loads((Path(folder) / f"found-{rank}.json").read_text("utf-8")) for rank in range(processes)]
    first = found[0]
    return {
        "processes": processes,
        "accumulation": accumulation,
        "batch": batch,
        "paragraphs": first["paragraphs"],
        "marks": first["marks"],
        "seconds_per_step": max(each["seconds_per_step"] for each in found),
        "processor_seconds_per_step": sum(each["processor_seconds_per_step"] for each in found),
        "tokens_per_step": sum(each["tokens_per_step"] for each in found),
        "peak_bytes": [each["peak_bytes"] for each in found],
        "losses": first["losses"],
    }


def furthest(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return how far each row's losses are from the first row's, at most.

    >>> furthest([{"losses": [2.0, 1.0]}, {"losses": [2.0, 1.5]}])
    [0.0, 0.5]
    """
    reference = rows[0]["losses"]
    return [max(abs(a - b) for a, b in zip(row["losses"], reference, strict=True)) for row in rows]


def tables_of(result: dict[str, Any]) -> str:
    """Return the figures as two Markdown tables."""
    rows = result["layouts"]
    lines = [
        "| processes | accumulation | rows each | processor ms a step | loss differs by |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['processes']} | {row['accumulation']} | {row['batch']} | "
        f"{1e3 * row['processor_seconds_per_step']:.0f} | {far:.1e} |"
        for row, far in zip(rows, furthest(rows), strict=True)
    ]
    lines += ["", "| paragraphs | first step after | the same, text read before | peak memory |", "|---|---|---|---|"]
    lines += [
        f"| {row['paragraphs']:,} | {row['marks']['first step']:.0f} s | {row['again']['first step']:.0f} s | "
        f"{max(row['peak_bytes']) / 1e6:,.0f} MB |"
        for row in result["corpora"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT, help="a file with one paragraph on each line")
    parser.add_argument("--steps", type=int, default=30, help="steps of each run (default: %(default)s)")
    parser.add_argument("--image", type=Path, default=IMAGE, help="where the plot goes")
    add_output_argument(parser)
    options = parser.parse_args()
    result: dict[str, Any] = {"text": options.text.name, "steps": options.steps, "load": os.getloadavg()[0]}
    if result["load"] > 1:
        print(f"Other work is running on this machine (load {result['load']:.1f}); times will be longer.")
    with tempfile.TemporaryDirectory() as place:
        once = larger_text(options.text, 1, Path(place) / "1.txt")
        layouts = [(processes, 1) for processes in PROCESSES] + [(1, more) for more in ACCUMULATION[1:]] + [(2, 2)]
        result["layouts"] = []
        for processes, accumulation in layouts:
            result["layouts"].append(measure(once, processes, accumulation, options.steps, Path(place) / "cache"))
            print(f"{processes} processes, accumulation {accumulation}: done", flush=True)
        result["corpora"] = []
        for copies in COPIES:
            text = larger_text(options.text, copies, Path(place) / f"{copies}x.txt")
            cache = Path(place) / f"cache-{copies}"
            row = measure(text, 1, 1, 3, cache)
            row |= {"copies": copies, "again": measure(text, 1, 1, 3, cache)["marks"]}
            result["corpora"].append(row)
            print(f"{copies} times the text: done", flush=True)
    print(f"\n{tables_of(result)}")
    draw(result, options.image)
    print(f"Drawn in {options.image}")
    write_result(options.output, "scale", result)


if __name__ == "__main__":
    main()
