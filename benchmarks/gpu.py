"""What a training step costs on a GPU, MLMTrainer against transformers' Trainer: `make bench-gpu`, six minutes.

    python benchmarks/gpu.py               # on one GPU, from a checkout, without installing anything
    python benchmarks/gpu.py --minutes 30  # every row; what does not fit into the time is listed as left out
    python benchmarks/gpu.py --tiny        # tiny models on the CPU, to see that it runs

Each row is a run of its trainer from end to end: the tutorial's loop; the peer, which is Trainer with transformers' own
collator, as people run it, grouped by length, compiled, and both; and MLMTrainer, one switch after the other. A bare
loop then takes the same steps: forward, backward, clipping and update on batches that wait on the GPU.

The clock is read, after waiting for the GPU, only at the ends of windows of several steps; figures are medians of
windows. Warming up and compiling come before, and their seconds are recorded. Rows are measured in the order of their
importance, and the two that the targets compare are measured once more later, so that a machine that changes its speed
shows. A row that fails records why, and the others go on. The last table says which targets are reached.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import io  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

# From a checkout that is not installed, and without a hub.
sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler would announce itself on stderr

import torch  # noqa: E402
import transformers  # noqa: E402
from gpu_cases import CASES, TARGETED, TINY_CASES, Case, parameters_of  # noqa: E402
from gpu_measuring import count_calls, matrix_rate, measure  # noqa: E402
from gpu_rows import AGAIN, OURS, PACKED, PARAGRAPHS, PEER, SWITCHES, Row  # noqa: E402
from gpu_tables import figures_of, table  # noqa: E402
from gpu_targets import target_table, verdicts  # noqa: E402
from result_file import add_output_argument, write_result  # noqa: E402

#: Seconds that a row is assumed to take before one of its kind has been measured: eager, and compiled.
_ASSUMED = {False: 12.0, True: 40.0}
#: The most seconds that a row may take, for one whose compiling does not end; and how far it may pass the deadline.
_ROW_LIMIT, _GRACE = 100.0, 20.0
#: Seconds at the end in which nothing is timed any more, since the profiler has been used.
_FOR_CALLS = 50.0


def rows_of_case(case: Case) -> tuple[Row, ...]:
    """Return the rows of a case, in the order of its table."""
    return PACKED if case.packed else PARAGRAPHS


def schedule(cases: Sequence[Case], targeted: Sequence[Case]) -> list[tuple[Case, Row]]:
    """Return what is measured, the most important first: the rows that a target compares, in all targeted cases."""
    found: list[tuple[int, Case, Row]] = []
    for case in cases:
        later = 0 if case in targeted else 10
        found += [(row.order + later, case, row) for row in rows_of_case(case)]
        if case in targeted:
            found += [(AGAIN, case, OURS), (AGAIN, case, PEER)]
    return [(case, row) for _, case, row in sorted(found, key=lambda entry: entry[0])]


def tiny_schedule() -> list[tuple[Case, Row]]:
    """Return every row for a model of one kind, and two for the other."""
    first, second = TINY_CASES
    return [*((first, row) for row in rows_of_case(first)), (second, PEER), (second, OURS)]


class Bench:
    """What has been measured so far, and the time that is left."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.deadline = device, STARTED + 60 * minutes
        self.size = 8192 if device.type == "cuda" else 256
        self.rates = [matrix_rate(device, self.size)]
        self.turns: dict[Case, dict[Row, list[dict[str, Any]]]] = {}
        self.calls: dict[tuple[Case, Row], dict[str, Any]] = {}
        self.left_out: list[dict[str, str]] = []
        self._took: dict[tuple[Any, bool], float] = {}

    def add(self, case: Case, row: Row) -> None:
        """Measure a row, unless it would take longer than the time that is left for this."""
        turn = self._within_time(measure, case, row, _FOR_CALLS if self.device.type == "cuda" else 0)
        if turn is None:
            return
        self.rates.append(matrix_rate(self.device, self.size))
        self.turns.setdefault(case, {}).setdefault(row, []).append(turn)
        figures = figures_of([turn], self.rates[-1])
        if "tokens_per_second" in figures:
            self._tell(case, row, "{ms_per_step:.1f} ms a step, {tokens_per_second:,.0f} tokens/s".format(**figures))
        for error in figures["errors"]:
            self._tell(case, row, error)

    def add_calls(self, case: Case, row: Row) -> None:
        """Count a row's calls of CUDA, unless it could not be measured or there is not enough time."""
        if all("error" in turn for turn in self.turns.get(case, {}).get(row, [])):
            return
        calls = self._within_time(count_calls, case, row, 0)
        if calls is not None:
            self.calls[case, row] = calls
            self._tell(case, row, calls.get("error") or f"{calls['launches']:.0f} launches a step")

    def _within_time(self, what: Any, case: Case, row: Row, reserved: float) -> dict[str, Any] | None:
        left = self.deadline - time.monotonic() - reserved
        expected = self._took.get((what, row.compiled), _ASSUMED[row.compiled])
        if left < expected:
            why = f"{max(0.0, left):.0f} s were left, and it takes about {expected:.0f}"
            name = row.name if what is measure else f"calls of {row.name}"
            self.left_out.append({"case": case.name, "row": name, "why": why})
            return None
        began = time.monotonic()
        found: dict[str, Any] = what(row, case, self.device, min(left + _GRACE, _ROW_LIMIT))
        found["seconds"] = time.monotonic() - began
        if "error" not in found:  # the longest so far
            self._took[what, row.compiled] = max(self._took.get((what, row.compiled), 0.0), found["seconds"])
        return found

    def _tell(self, case: Case, row: Row, what: str) -> None:
        print(f"{time.monotonic() - STARTED:4.0f} s  {case.name}  {row.name}: {what}", flush=True)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each case's rows, in the order of the tables."""
        rate = statistics.median(self.rates)
        return {
            case.name: {
                row.name: figures_of(turns[row], rate, self._counted(case, row))
                for row in rows_of_case(case)
                if row in turns
            }
            for case, turns in self.turns.items()
        }

    def _counted(self, case: Case, row: Row) -> dict[str, Any] | None:
        calls = self.calls.get((case, row), {})
        return calls if "launches" in calls else None

    def result(self) -> dict[str, Any]:
        """Return everything, for the JSON."""
        figures = self.figures()
        return {
            "seconds": time.monotonic() - STARTED,
            "switches": SWITCHES,
            "matrix_size": self.size,
            "matrix_flops_per_second": statistics.median(self.rates),
            "matrix_rates": self.rates,
            "cases": {
                case.name: asdict(case)
                | {
                    "parameters": parameters_of(case.model),
                    "rows": [
                        {"row": row.name, "values": dict(row.values), **figures[case.name][row.name]}
                        | {"turns": turns[row], "counted": self.calls.get((case, row))}
                        for row in rows_of_case(case)
                        if row in turns
                    ],
                }
                for case, turns in self.turns.items()
            },
            "left_out": self.left_out,
            "targets": verdicts(figures),
        }

    def show(self) -> None:
        """Print a table for each case, what was left out, and what the targets say."""
        slowest, median, fastest = (f(self.rates) / 1e12 for f in (min, statistics.median, max))
        print(
            f"\nProduct of two bf16 matrices of {self.size} x {self.size}: {median:,.4g} TFLOP/s "
            f"({slowest:,.4g} to {fastest:,.4g} in the course of the run)"
        )
        for name, rows in self.figures().items():
            print(f"\n{name}\n{table(rows, PEER.name)}")
        left_out: dict[str, list[str]] = {}
        for each in self.left_out:
            left_out.setdefault(each["case"], []).append(each["row"])
        for name, rows in left_out.items():
            print(f"\nLeft out for lack of time: {name}: {'; '.join(rows)}.")
        print(f"\n{target_table(verdicts(self.figures()))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.5, help="no row is begun that would end later")
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU, to see that it runs")
    add_output_argument(parser)
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("received a machine without a CUDA GPU. Accepted: one with a GPU, or --tiny on a CPU.")
    transformers.logging.set_verbosity_error()
    device = torch.device("cpu" if options.tiny else "cuda")
    name = "gpu-tiny" if options.tiny else "gpu"
    with tempfile.TemporaryDirectory() as folder:
        # Empty, so that the seconds of compiling are those of a first run.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        bench = Bench(device, options.minutes)
        for case, row in tiny_schedule() if options.tiny else schedule(CASES, TARGETED):
            bench.add(case, row)
            with contextlib.redirect_stdout(io.StringIO()):  # after each row, in case the machine is taken away
                write_result(options.output, name, bench.result(), device.type)
        for case in TINY_CASES[:1] if options.tiny else TARGETED:
            for row in (PEER,) if options.tiny else (PEER, OURS):
                bench.add_calls(case, row)
    bench.show()
    write_result(options.output, name, bench.result(), device.type)


if __name__ == "__main__":
    main()
