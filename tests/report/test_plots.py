from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mlm_recipes.report import plots

HISTORY = [{"step": n, "loss": 5 - n / 50, "learning_rate": 1e-3 * n / 100} for n in range(1, 101)]


def markup(plot):
    return ElementTree.tostring(plot.svg, encoding="unicode")


def points(plot):
    """Return the points of a plot's line, as drawn."""
    paths = [path for path in plot.svg.iter("path") if "clip-path" in path.attrib]
    (line,) = [path.get("d") for path in paths if "var(--after)" in path.get("style")]
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", line)]


def test_a_falling_loss_falls_in_the_plot():
    plot = plots.held_out_loss([(0, 4.0), (10, 3.0), (20, 2.0), (30, 1.0)])
    painted = points(plot)
    xs, ys = zip(*painted, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # an SVG counts downwards
    assert len(painted) >= 2
    assert "4.000 at step 0, 1.000 at step 30; the lowest, 1.000, at step 30" in plot.description
    assert plot.rows == [("0", "4.000"), ("10", "3.000"), ("20", "2.000"), ("30", "1.000")]


def test_before_and_after_alone_make_no_curve():
    assert plots.held_out_loss([(0, 4.0), (10, 3.0)]) is None
    assert plots.training_loss(HISTORY[:1]) is None
    assert plots.learning_rate([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}]) is None
    assert plots.accuracy_by_band([], (), []) is None


def test_the_masked_share_is_plotted_only_if_it_changed():
    assert plots.masked_share(HISTORY) is None
    plot = plots.masked_share([entry | {"mlm_probability": 0.3 - 0.001 * entry["step"]} for entry in HISTORY])
    assert "29.9% at step 1, 20.0% at step 100. It changes the task" in plot.description
    ys = [y for _, y in points(plot)]
    assert ys == sorted(ys)  # an SVG counts downwards
    assert ys[0] < ys[-1]
    assert plot.rows[0] == ("1", "29.9%")


def test_the_same_numbers_give_the_same_bytes():
    assert markup(plots.training_loss(HISTORY)) == markup(plots.training_loss(HISTORY))


def test_a_plot_of_many_steps_is_small_and_averages_all_of_them():
    many = [{"step": n, "loss": float(n % 2), "learning_rate": 1.0} for n in range(1, 30_001)]
    plot = plots.training_loss(many)
    assert len(markup(plot)) < 40_000
    assert len(plot.rows) == plots.ROWS
    assert {loss for _, loss in plot.rows} == {"0.500"}  # the mean of each hundred steps
    assert plot.rows[-1][0] == "30,000"


@pytest.mark.parametrize("rate", [0.0, 1e-7, 3.0])
def test_any_learning_rate_can_be_plotted(rate):
    svg = markup(plots.learning_rate([{"step": n, "learning_rate": rate} for n in (1, 2)]))
    assert "nan" not in svg.lower()


def test_plots_on_a_page_share_no_id():
    ids = [
        set(re.findall(r'id="([^"]+)"', markup(plot)))
        for plot in (plots.training_loss(HISTORY), plots.learning_rate(HISTORY))
    ]
    assert all(ids)
    assert not ids[0] & ids[1]
    svg = markup(plots.training_loss(HISTORY))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    assert all((one or other) in ids[0] for one, other in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))


def test_matplotlibs_global_settings_are_unchanged():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.training_loss(HISTORY)
    assert dict(matplotlib.rcParams) == before
