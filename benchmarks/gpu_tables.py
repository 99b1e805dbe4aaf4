"""What benchmarks/gpu.py makes of its measurements: figures, a table for each case, and what the targets say."""

from __future__ import annotations

import statistics
from typing import Any

Figures = dict[str, Any]


def figures_of(turns: list[Figures], matrix_rate: float, calls: Figures | None = None) -> Figures:
    """Return a row's figures over all its turns, medians of the windows; of a row that failed, why.

    `calls`: what its steps ask of CUDA, if that was counted.
    """
    measured = [turn for turn in turns if "window_seconds" in turn]
    found: Figures = {"errors": [turn["error"] for turn in turns if "error" in turn]}
    if not measured:
        return found
    first = measured[0]
    found |= _rates(measured, matrix_rate) | {
        "peak_memory_bytes": first.get("peak_memory_bytes"),
        "warm_up_seconds": first["warm_up_seconds"],
        # What the warm-up took longer than so many later steps: compiling, capturing graphs, starting workers.
        "start_seconds": max(0.0, first["warm_up_seconds"] - first["warm_up_steps"] * _seconds(first)),
        "waits": sum(first["waits"].values()) if "waits" in first else None,
        "calls": calls,
    }
    bare = [turn["bare"] for turn in measured if "bare" in turn]
    if bare:
        found["bare"] = _rates(bare, matrix_rate)
        found["over_bare"] = found["bare"]["tokens_per_second"] / found["tokens_per_second"] - 1
    return found


def _seconds(turn: Figures) -> float:
    return statistics.median(turn["window_seconds"]) / turn["steps"]


def _rates(turns: list[Figures], matrix_rate: float) -> Figures:
    seconds = [s for turn in turns for s in turn["window_seconds"]]
    tokens = [n for turn in turns for n in turn["window_tokens"]]
    flops = [n for turn in turns for n in turn["window_flops"]]
    steps = turns[0]["steps"]
    rate = statistics.median(n / s for n, s in zip(tokens, seconds, strict=True))
    return {
        # Of a step with the average number of tokens: the windows of two rows may have different ones.
        "ms_per_step": 1e3 * statistics.mean(tokens) / steps / rate,
        "tokens_per_second": rate,
        "share_of_matrix_rate": statistics.median(n / s for n, s in zip(flops, seconds, strict=True)) / matrix_rate,
    }


def best(rows: dict[str, Figures], whose: str, bare: bool = False) -> tuple[str, Figures] | None:
    """Return the fastest of the peer's or of our rows, by its bare loop if `bare`."""
    found = [
        (name, figures["bare"] if bare else figures)
        for name, figures in rows.items()
        if name.startswith(whose) and "tokens_per_second" in figures and (not bare or "bare" in figures)
    ]
    return max(found, key=lambda row: row[1]["tokens_per_second"], default=None)


HEAD = (
    "", "ms/step", "tokens/s", "of rate", "peak GB", "x peer", "x best peer", "memory", "launches", "graphs", "waits",
    "start s", "bare ms", "x bare peer", "over bare",
)  # fmt: skip


def table(rows: dict[str, Figures], peer: str) -> str:
    """Return a case's rows as a table; `peer` is the name of the row that ratios are relative to."""
    baseline, fastest = rows.get(peer, {}), best(rows, "peer")
    lines: list[tuple[str, ...]] = [HEAD]
    for name, row in rows.items():
        if "tokens_per_second" not in row:
            continue
        bare, calls = row.get("bare", {}), row["calls"]
        rate, memory = row["tokens_per_second"], row["peak_memory_bytes"]
        lines.append(
            (
                name,
                f"{row['ms_per_step']:.1f}",
                f"{rate:,.0f}",
                f"{row['share_of_matrix_rate']:.1%}",
                f"{memory / 1e9:.2f}" if memory else "",
                _times(rate, baseline.get("tokens_per_second")),
                _times(rate, fastest and fastest[1]["tokens_per_second"]),
                _times(memory, baseline.get("peak_memory_bytes")),
                f"{calls['launches']:.0f}" if calls else "",
                f"{calls['graph_launches']:.0f}" if calls else "",
                "" if row["waits"] is None else str(row["waits"]),
                f"{row['start_seconds']:.0f}",
                f"{bare['ms_per_step']:.1f}" if bare else "",
                _times(bare.get("tokens_per_second"), baseline.get("bare", {}).get("tokens_per_second")),
                f"{row['over_bare']:+.1%}" if bare else "",
            )
        )
    failed = [f"{name} failed: {why}" for name, row in rows.items() for why in row["errors"]]
    return "\n".join([*aligned(lines), *failed])


def aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, its first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    ]


def _times(figure: float | None, baseline: float | None) -> str:
    return f"{figure / baseline:.2f}" if figure and baseline else ""
