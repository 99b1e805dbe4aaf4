"""The scripts that hold runs in many processes against one, and what they make of their figures."""

from __future__ import annotations

import copy
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"

RUN = {"weights_differ": 1e-7, "losses_differ": 2e-7, "rows": 4, "accumulation": 3}
EQUALITY = {
    "bounds": {"weights": 6e-6, "losses": 2e-4, "moved": 1.5e-2},
    "from_the_beginning": {"1 process": RUN | {"weights_differ": 0.0}, "3 processes": RUN | {"accumulation": 1}},
    "resumed": {"1 process": {"1 process": RUN | {"weights_differ": 3e-7}}},
}
STORY = {
    "prepared": {"shards": [40, 20], "whole_when_killed": 2, "kept": 2, "seconds_of_second_start": 5.4},
    "lost_host": {
        "steps": 60, "lost_at_step": 25, "resumed_from_step": 20, "seconds_until_next_step": 20.6,
        "last_call_seconds": 10, "seconds_until_noticed": 5.6, "went_on_alone": "gradient_accumulation_steps 2.",
    },
    "compared": {
        "files": 9, "other_files": [], "weights": 4_000_000, "weights_differ": 2e-7, "weights_moved": 0.2,
    },
}  # fmt: skip


def test_the_table_of_equality_shows_each_layout_and_each_pair(benchmark):
    equality = benchmark("equality")
    assert equality.shown(EQUALITY).splitlines() == [
        "| trained by | rows x accumulation | from the beginning | saved by 1 process |",
        "|---|---|---|---|",
        "| 1 process | 4 x 3 | 0.0e+00 | 3.0e-07 |",
        "| 3 processes | 4 x 1 | 1.0e-07 |  |",
        "",
        "Weights differ by at most 3.0e-07 (bound 6.0e-06), having moved by up to 1.5e-02.",
        "Losses differ by at most 2.0e-07 of a loss (bound 2.0e-04).",
    ]


@pytest.mark.parametrize(("what", "figure"), [("weights", 7e-6), ("losses", 3e-4), ("weights", float("nan"))])
def test_a_figure_above_its_bound_is_found(benchmark, what, figure):
    equality = benchmark("equality")
    assert equality.exceeded(EQUALITY) == []
    result = copy.deepcopy(EQUALITY)
    result["resumed"]["1 process"]["1 process"][f"{what}_differ"] = figure
    assert equality.exceeded(result) == [what]


def test_a_weight_that_is_not_a_number_is_not_lost(benchmark):
    differences = benchmark("differences")
    for place in (0, 1):  # `max` finds it at one of them
        found, expected = {"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.ones(2)}
        assert differences.of_weights(found, expected) == 1.0
        found["ab"[place]][1] = float("nan")
        assert math.isnan(differences.of_weights(found, expected))


def test_the_bound_of_equality_would_not_hide_a_real_difference(benchmark, tiny_bert):
    equality = benchmark("equality")
    start = {name: weight.detach() for name, weight in tiny_bert.named_parameters()}
    end = {name: weight + 0.01 for name, weight in start.items()}
    bounds = equality.bounds_of(start, end, tiny_bert)
    assert bounds["moved"] == pytest.approx(0.01, rel=1e-4)
    assert torch.finfo(torch.float32).eps < bounds["weights"] < bounds["moved"] / 100
    assert bounds["losses"] < 1e-3


def test_a_story_is_told_from_its_figures(benchmark):
    long_story = benchmark("long_story")
    lines = long_story.shown(STORY).splitlines()
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. ", "4. "]
    assert "killed when 2 of its 40 shards were whole. Started again, it kept 2" in lines[0]
    assert "lost for good at step 25 of 60" in lines[1]
    assert "noticed after 6 s, waited 10 s for other hosts, and went on alone from checkpoint 20" in lines[2]
    assert "its next step was done 21 s after the loss" in lines[2]
    assert "9 of 9 files" in lines[3]
    assert "4,000,000 weights differ by at most 2.0e-07, having moved by up to 2.0e-01." in lines[3]
    assert long_story.failures(STORY) == []


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("weights_differ", 2e-6, "weights differ by 2.0e-06, more than 1e-06"),
        ("weights_differ", float("nan"), "weights differ by nan, more than 1e-06"),
        ("weights_moved", 1e-5, "the weights moved by 1.0e-05 only: too little to agree about"),
        ("other_files", ["index.json"], "other bytes in index.json"),
    ],
)
def test_a_story_that_ends_otherwise_is_said_to(benchmark, figure, value, said):
    assert benchmark("long_story").failures(STORY | {"compared": STORY["compared"] | {figure: value}}) == [said]


def run(name, *arguments):
    """Run a script as `make` does; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_one_process_or_two_hosts_have_saved_both_resume():
    """The other pairs are those of test_layouts.py and test_sharded_trainer.py."""
    printed = run("equality.py", "--only", "two hosts")
    rows = re.findall(r"^\| (?:1 process|two hosts) \| \d x \d((?: \| [\d.e+-]+){3}) \|$", printed, flags=re.MULTILINE)
    figures = [float(figure) for row in rows for figure in row.split("|")[1:]]
    assert len(figures) == 6
    assert max(figures) <= 1e-6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="a launcher's processes are found in Linux's /proc")
def test_a_long_story_ends_as_if_nothing_had_happened(tmp_path):
    printed = run("long_story.py", "--steps", "40", "--save_steps", "10", "--output", str(tmp_path))
    assert "WRONG" not in printed
    assert re.findall(r"^\d\.", printed, flags=re.MULTILINE) == ["1.", "2.", "3.", "4."]
    assert len(list(tmp_path.glob("story_*.json"))) == 1
