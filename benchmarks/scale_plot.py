"""Draws what benchmarks/scale.py has measured, as an SVG for docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], place: Path) -> None:
    """Draw processor time by layout, and the time to the first step by size; the same figures give the same file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "scale", "font.family": "DejaVu Sans", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 3), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        rows = result["layouts"]
        names = [f"{row['processes']} x {row['batch']} x {row['accumulation']}" for row in rows]
        left.bar(names, [1e3 * row["processor_seconds_per_step"] for row in rows], color="#4c78a8")
        left.set(ylabel="processor ms a step", xlabel="processes x rows x accumulation", title="The same batch of 16")
        left.tick_params(axis="x", labelrotation=30)
        texts = result["corpora"]
        sizes = [row["paragraphs"] for row in texts]
        for label, colour, marks in (("new text", "#4c78a8", "marks"), ("read before", "#f58518", "again")):
            right.plot(sizes, [row[marks]["first step"] for row in texts], "o-", color=colour, label=label)
        right.set(
            xscale="log", ylim=(0, None), xlabel="paragraphs", ylabel="seconds", title="To the end of the first step"
        )
        right.legend(frameon=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
