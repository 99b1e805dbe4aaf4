"""SVG plots for a page: drawn by matplotlib, coloured by the page's CSS, and identical each time they are drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from ..metrics_file import Band, LoggedStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Inches: as wide as a phone, so that text is as large there as on a desktop, which shows two plots side by side.
SIZE = (3.7, 2.35)

#: The colours that matplotlib draws, and their replacements in the page: CSS then decides, for light, dark and print.
COLOURS = {
    "#000001": "currentColor",
    "#000002": "var(--muted)",
    "#000003": "var(--rule)",
    "#000004": "var(--before)",
    "#000005": "var(--after)",
    "#000006": "var(--paper)",
}
INK, MUTED, RULE, BEFORE, AFTER, PAPER = COLOURS

#: The most points in a line, each the mean of the steps that it represents, and the most rows in a data table.
POINTS, ROWS = 300, 40

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text, not outlines: small, sharp, and in the page's own font
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "axes.unicode_minus": False,
    "text.parse_math": False,
    # Powers of ten as plain text; matplotlib would set math text in its own fonts.
    "axes.formatter.use_mathtext": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot: its `svg`, which a template writes out, and its numbers as a table, for readers who cannot see it."""

    name: str
    title: str
    description: str
    svg: ElementTree.Element
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def training_loss(history: Sequence[LoggedStep]) -> Plot | None:
    """Plot the logged training loss; None for fewer than two entries.

    `history` is `train.history` of metrics.json.
    """
    points = _points(history, "loss")
    if len(points) < 2:
        return None
    steps, losses = zip(*points, strict=True)
    smooth = _running_mean(losses)
    means = ", and their running mean" if smooth else ""

    def draw(axes: Axes) -> None:
        axes.plot(steps, losses, color=MUTED if smooth else AFTER, linewidth=0.8 if smooth else 1.6)
        if smooth:
            axes.plot(steps, smooth, color=AFTER, linewidth=1.8)
        axes.set(xlabel="step", ylabel="nats per token")

    return Plot(
        "training-loss",
        "Training loss",
        f"The loss of the training batches, each with new masks{means}: {_from_to(steps, losses)}. Do not compare it "
        "with the held-out loss: dropout is on, and the share of masked tokens may differ.",
        as_svg("training-loss", "Training loss", draw),
        ("step", "loss (nats)"),
        [(f"{step:,.0f}", f"{loss:.3f}") for step, loss in thinned(points, ROWS)],
    )


def learning_rate(history: Sequence[LoggedStep]) -> Plot | None:
    """Plot the learning rate of each step; None for fewer than two entries."""
    points = _points(history, "learning_rate")
    if len(points) < 2:
        return None
    steps, rates = zip(*points, strict=True)

    def draw(axes: Axes) -> None:
        axes.plot(steps, rates, color=AFTER, linewidth=1.6)
        axes.set(xlabel="step", ylim=(0, 1.08 * max(rates) or 1))
        axes.yaxis.set_major_formatter(lambda rate, _position: f"{rate:.3g}")

    peak = max(points, key=lambda point: point[1])
    return Plot(
        "learning-rate",
        "Learning rate",
        f"The learning rate: {rates[0]:.3g} at step {steps[0]:,.0f}, at most {peak[1]:.3g} at step {peak[0]:,.0f}, "
        f"{rates[-1]:.3g} at step {steps[-1]:,.0f}.",
        as_svg("learning-rate", "Learning rate", draw),
        ("step", "learning rate"),
        [(f"{step:,.0f}", f"{rate:.3g}") for step, rate in thinned(points, ROWS)],
    )


def masked_share(history: Sequence[LoggedStep]) -> Plot | None:
    """Plot the share of the tokens that each step masked; None if it did not change."""
    points = _points(history, "mlm_probability")
    if len(points) < 2:
        return None
    steps, shares = zip(*points, strict=True)

    def draw(axes: Axes) -> None:
        axes.plot(steps, shares, color=AFTER, linewidth=1.6)
        axes.set(xlabel="step", ylabel="of the tokens", ylim=(0, 1.08 * max(shares)))
        axes.yaxis.set_major_formatter(lambda share, _position: f"{share:.0%}")

    return Plot(
        "masked-share",
        "Masked tokens",
        f"The share of the tokens that training masked: {shares[0]:.1%} at step {steps[0]:,.0f}, {shares[-1]:.1%} at "
        f"step {steps[-1]:,.0f}. It changes the task, and with it the training loss. The held-out loss is always "
        "measured with the same masks.",
        as_svg("masked-share", "Share of the tokens that training masked", draw),
        ("step", "masked"),
        [(f"{step:,.0f}", f"{share:.1%}") for step, share in thinned(points, ROWS)],
    )


def held_out_loss(points: Sequence[tuple[float, float]]) -> Plot | None:
    """Plot the held-out loss on the same masked tokens over training, from `(step, loss)`; None for fewer than three.

    Before and after alone make no curve; the table shows them.
    """
    if len(points) < 3:
        return None
    steps, losses = zip(*points, strict=True)

    def draw(axes: Axes) -> None:
        axes.plot(steps, losses, color=AFTER, linewidth=1.6, marker="o", markersize=4 if len(points) < 40 else 0)
        axes.set(xlabel="step", ylabel="nats per token")

    least = min(points, key=lambda point: point[1])
    return Plot(
        "held-out-loss",
        "Held-out loss",
        f"The loss on the held-out text, on the same masked tokens each time (the first draw of the masks): "
        f"{_from_to(steps, losses)}; the lowest, {least[1]:.3f}, at step {least[0]:,.0f}.",
        as_svg("held-out-loss", "Held-out loss on the same masked tokens", draw),
        ("step", "loss (nats)"),
        [(f"{step:,.0f}", f"{loss:.3f}") for step, loss in thinned(points, ROWS)],
    )


def accuracy_by_band(bands: Sequence[Band], header: tuple[str, ...], table: list[tuple[str, ...]]) -> Plot | None:
    """Plot the accuracy before and after, by how often the token occurs in training; None without bands.

    `bands` is as in metrics.json; `header` and `table` are the same numbers as text.
    """
    if not bands:
        return None
    names = [band["name"] for band in bands]
    accuracies = [band["measures"]["accuracy"] for band in bands]
    before, after = [each["before"] for each in accuracies], [each["after"] for each in accuracies]

    def draw(axes: Axes) -> None:
        places = range(len(bands))
        axes.hlines(places, before, after, color=MUTED, linewidth=1.2)
        axes.plot(before, places, "o", color=BEFORE, markerfacecolor=PAPER, markersize=7, label="before")
        axes.plot(after, places, "D", color=AFTER, markersize=6, label="after")
        axes.set(xlabel="accuracy", xlim=(0, 1.08 * max(*before, *after) or 1), ylim=(len(bands) - 0.5, -0.5))
        axes.set_yticks(list(places), names)
        axes.set_ylabel("occurrences in training")
        axes.xaxis.set_major_formatter(lambda share, _position: f"{share:.0%}")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    said = "; ".join(f"{n}: {old:.1%} to {new:.1%}" for n, old, new in zip(names, before, after, strict=True))
    return Plot(
        "accuracy-by-band",
        "Accuracy by word frequency",
        f"The share of masked tokens predicted correctly, before and after, by how often the token occurs in the "
        f"training text. {said}.",
        as_svg("accuracy-by-band", "Accuracy by word frequency", draw),
        header,
        table,
    )


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most `most` points, evenly spaced, including the first and the last.

    >>> thinned([(step, 0.0) for step in range(1, 11)], 4)
    [(1, 0.0), (4, 0.0), (7, 0.0), (10, 0.0)]
    """
    if len(points) <= most:
        return list(points)
    return [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]


def _points(
    history: Sequence[LoggedStep], name: Literal["loss", "learning_rate", "mlm_probability"]
) -> list[tuple[float, float]]:
    """Return the step and value of each entry that has one; neighbours are averaged if there are many."""
    found = [(float(entry["step"]), float(entry[name])) for entry in history if entry.get(name) is not None]
    together = -(-len(found) // POINTS)
    if together <= 1:
        return found
    groups = [found[start : start + together] for start in range(0, len(found), together)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _running_mean(values: Sequence[float]) -> list[float]:
    """Return the running mean over a fifteenth of the values; empty if there are few."""
    reach = len(values) // 30
    if reach < 2:
        return []
    windows = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _from_to(steps: Sequence[float], values: Sequence[float]) -> str:
    return f"{values[0]:.3f} at step {steps[0]:,.0f}, {values[-1]:.3f} at step {steps[-1]:,.0f}"


def as_svg(name: str, title: str, draw: Callable[[Axes], None]) -> ElementTree.Element:
    """Return what `draw` draws as an element for a page, in which its `name` is unique and its `title` is read out."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = io.StringIO()
    style: Any = _STYLE | {"svg.hashsalt": name}  # stable ids, different from those of other plots
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.margins(x=0.02)
        axes.tick_params(length=0)
        draw(axes)
        # No date, no version: the same numbers give the same bytes.
        about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=about)
    return _for_a_page(written.getvalue(), name, title)


def _for_a_page(document: str, name: str, title: str) -> ElementTree.Element:
    """Return an SVG document as an element for an HTML page: only ids that it refers to, only the page's colours."""
    svg = ElementTree.fromstring(document)  # noqa: S314  matplotlib has just written it
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', document))
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag.endswith("}style"):  # it would apply to the whole page
                parent.remove(child)
    for element in svg.iter():
        element.tag = element.tag.split("}")[-1]  # inside HTML an SVG has no namespaces
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            plain = key.split("}")[-1]
            if plain == "id" and value not in used:
                continue
            if plain == "style":
                value = re.sub(r"font-family:[^;]*;?|font: ([\d.]+px) [^;]*", r"", value)
            if plain in ("style", "fill", "stroke"):
                value = re.sub(r"#0000\d\d", lambda match: COLOURS[match[0]], value)
            if plain in ("d", "x", "y", "transform"):
                value = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", " ".join(value.split()))
            element.set(plain, value)
        element.text, element.tail = (element.text or "").strip(), ""
    box = svg.get("viewBox", "")
    for key in list(svg.attrib):
        del svg.attrib[key]
    svg.attrib |= {
        "viewBox": box,
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-text",
        "stroke-linejoin": "round",
    }
    heading = ElementTree.Element("title", id=f"{name}-title")
    heading.text = title
    svg.insert(0, heading)
    return svg
