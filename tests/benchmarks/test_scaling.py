"""What benchmarks/scale.py measures and shows."""

from __future__ import annotations

import pytest


def scale_row(processes=1, accumulation=1, **changes):
    marks = {"imported": 5.0, "read": 6.0, "tokenized": 7.0, "first step": 8.0}
    return {
        "processes": processes, "accumulation": accumulation, "batch": 16 // processes // accumulation,
        "paragraphs": 512, "marks": marks, "again": marks | {"first step": 7.0}, "processor_seconds_per_step": 0.12,
        "peak_bytes": [400e6, 390e6], "losses": [7.5, 7.25],
    } | changes  # fmt: skip


def test_what_scales_is_shown_as_tables_and_as_a_plot(benchmark, tmp_path):
    layouts = [scale_row(), scale_row(processes=2, losses=[7.5, 7.25 + 1e-6])]
    result = {"layouts": layouts, "corpora": [scale_row(), scale_row(paragraphs=5120)]}
    tables = benchmark("scale").tables_of(result)
    assert "| 1 | 1 | 16 | 120 | 0.0e+00 |\n| 2 | 1 | 8 | 120 | 1.0e-06 |" in tables
    assert "| 5,120 | 8 s | 7 s | 400 MB |" in tables
    for name in ("one.svg", "two.svg"):
        benchmark("scale_plot").draw(result, tmp_path / "new" / name)
    drawn = [(tmp_path / "new" / name).read_bytes() for name in ("one.svg", "two.svg")]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]


def test_a_larger_text_repeats_no_paragraph(benchmark, tmp_path):
    small = tmp_path / "small.txt"
    small.write_text("one two three four five\n\nsix seven eight nine ten\n")
    lines = benchmark("scale").larger_text(small, 3, tmp_path / "large.txt").read_text().splitlines()
    assert lines[:2] == ["one two three four five", "six seven eight nine ten"]
    assert len(set(lines)) == 6
    assert all(sorted(line.split()) in (sorted(lines[0].split()), sorted(lines[1].split())) for line in lines)


@pytest.mark.slow
def test_two_processes_and_accumulation_scale_with_the_losses_of_one(benchmark, tmp_path):
    scale = benchmark("scale")
    text = scale.larger_text(scale.TEXT, 1, tmp_path / "text.txt")
    rows = [scale.measure(text, *layout, 3, tmp_path / "cache") for layout in ((1, 1), (2, 1), (1, 4))]
    assert [row["batch"] for row in rows] == [16, 8, 4]
    assert max(scale.furthest(rows)) < 1e-5
    assert rows[0]["tokens_per_step"] == rows[1]["tokens_per_step"] == rows[2]["tokens_per_step"]
    assert len(rows[1]["peak_bytes"]) == 2
