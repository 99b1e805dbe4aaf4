"""The learning curve of a probe, as a plot for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..probes_file import ProbeChange
from .plots import AFTER, BEFORE, MUTED, PAPER, Plot, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(probe: ProbeChange, name: str = "probe-curve") -> Plot | None:
    """Plot the accuracy before and after by the number of labels to learn from; None for fewer than two numbers.

    `name` is that of the plot in its page.
    """
    points = probe["learning_curve"]
    if len(points) < 2:
        return None
    labels = [point["labels"] for point in points]
    before, after = [point["before"] for point in points], [point["after"] for point in points]
    most = probe["majority"]["share"]

    def draw(axes: Axes) -> None:
        axes.axhline(most, color=MUTED, linewidth=1, linestyle=":", label="most common label")
        axes.plot(
            labels, before, "o-", color=BEFORE, markerfacecolor=PAPER, linewidth=1.4, markersize=6, label="before"
        )
        axes.plot(labels, after, "D-", color=AFTER, linewidth=1.4, markersize=5, label="after")
        axes.set_xscale("log")
        axes.set_xticks(labels, [f"{number:,}" for number in labels])
        axes.minorticks_off()
        axes.set(xlabel="labels to learn from", ylabel="accuracy")
        axes.yaxis.set_major_formatter(lambda share, _position: f"{share:.0%}")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1, handletextpad=0.4)

    title = f"Classifying {probe['name']}, by the number of labels"
    said = "; ".join(
        f"{number:,}: {old:.1%} to {new:.1%}" for number, old, new in zip(labels, before, after, strict=True)
    )
    return Plot(
        name,
        title,
        f"The share of the texts of {probe['name']} that are classified correctly, by the number of labels to learn "
        f"from, the same ones before and after; the most common label alone is right for {most:.1%}. {said}.",
        as_svg(name, title, draw),
        ("labels", "draws of them", "before", "after", "change in points", "95% interval"),
        [
            (
                f"{point['labels']:,}",
                f"{point['draws']:,}",
                f"{point['before']:.1%}",
                f"{point['after']:.1%}",
                f"{100 * point['change']:+.1f}",
                f"{100 * point['low']:+.1f} to {100 * point['high']:+.1f}",
            )
            for point in points
        ],
    )
