"""What benchmarks/natural_labels.py makes of texts, and benchmarks/task_gain.py of runs; no model is trained."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest


def write(name, paragraphs):
    Path(name).write_text("".join(paragraph + "\n" for paragraph in paragraphs), encoding="utf-8")
    return name


def sentence(name, number):
    """Words that are in no other sentence; a longer sentence for an odd number."""
    return " ".join(f"{name}{number}{letter}" for letter in "abcdefgh") + "x" * (number % 2)


@pytest.fixture
def files():
    """Two texts of 400 and 360 paragraphs; five of the second half of the first stand in its first half, too."""
    ship, farm = ([sentence(name, number) for number in range(size)] for name, size in (("ship", 400), ("farm", 360)))
    ship[395:] = ship[:5]
    return [write("ship.txt", ship), write("farm.txt", farm)]


def test_what_is_asked_about_is_not_trained_on_and_each_label_has_as_many(benchmark, files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["natural_labels.py", *files, "--into", "made/task", "--shortest", "20"])
    benchmark("natural_labels").main()
    training = Path("made/task.txt").read_text("utf-8").splitlines()
    with Path("made/task.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(training) == 200 + 180
    assert not {row["text"] for row in rows} & set(training)
    assert [row["label"] for row in rows] == ["ship"] * 180 + ["farm"] * 180
    assert all(row["label"] in row["text"] for row in rows)
    assert "360 paragraphs, 2 labels; 5 more stand in the training text" in capsys.readouterr().out


def test_paragraphs_of_other_lengths_are_trained_on_only(benchmark, files):
    task = benchmark("natural_labels").task_from(files, most=321, trained=0.1, longest=71)
    assert max(map(len, task.texts)) <= 71
    assert len(task.texts) == 320


def test_too_few_paragraphs_are_refused(benchmark, files):
    with pytest.raises(ValueError, match=r"each of the 2 labels has 15 paragraphs .*ship 15, farm 18; .*Accepted: 300"):
        benchmark("natural_labels").task_from(files, most=2000, shortest=20, trained=0.95)


def measure(before, after, low, high):
    return {"before": before, "after": after, "change": after - before, "low": low, "high": high}


def metrics(loss, accuracy):
    """What a run's metrics.json has, as far as it is read."""
    held = measure(3.0, 3.0 - loss, -loss - 0.1, -loss + 0.1) | {"verdict": "better"}
    task = measure(0.5, 0.5 + accuracy, accuracy - 0.02, accuracy + 0.02)
    few = {"labels": 64, "draws": 2, **task}
    return {
        "corpus": {"words": 1000}, "after": {"masked_tokens": 9}, "train": {"epochs": 1.0, "seconds": 2.0},
        "change": {"held_out": {"measures": {"loss": held}}},
        "probes": [{
            "texts": 300, "labels": {"a": 150, "b": 150}, "majority": {"label": "a", "share": 0.5},
            "leakage": {"exact": 0, "near": 1}, "smallest_change": 0.04, "chosen_before": {}, "chosen_after": {},
            "accuracy": task, "macro_f1": task, "learning_curve": [{"labels": 16, **task}, few],
        }],
    }  # fmt: skip


@pytest.fixture
def table_of(benchmark, tmp_path, monkeypatch, capsys):
    """Run the script without training: what a run gains depends on its text and seed.

    Returns what it printed, its file, and the runs.
    """
    script, runs = benchmark("task_gain"), []

    class Result:
        def __init__(self, values):
            runs.append((values["corpus"], values["probe"], values["seed"], values["max_steps"]))
            gained = {"sea.txt": 0.1, "land.txt": 0.5, "sky.txt": 1.0}[values["corpus"]] + 0.01 * values["seed"]
            self.metrics = metrics(gained, gained / 10)

    monkeypatch.setattr(script, "train", lambda recipe, **values: Result(values))

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["task_gain.py", "--output", str(tmp_path / "results"), *arguments])
        script.main()
        (path,) = (tmp_path / "results").iterdir()
        return capsys.readouterr().out, json.loads(path.read_text("utf-8")), runs

    return called


PAIRS = ["--text", "sea.txt", "--probe", "sea.csv", "--text", "land.txt", "--probe", "land.csv"]


def test_the_table_has_a_row_for_each_text_and_seed_and_their_means(table_of):
    said, found, runs = table_of(*PAIRS, "--seeds", "2", "--steps", "7")
    expected = [("sea.txt", "sea.csv", 0, 7), ("land.txt", "land.csv", 0, 7)]
    assert runs == [*expected, ("sea.txt", "sea.csv", 1, 7), ("land.txt", "land.csv", 1, 7)]
    assert (
        "| land | land | 7 | 1 | 3.000 -> 2.490 | +0.510 (+0.410 to +0.610) | 50.0% -> 55.1% | +5.1 (+3.1 to +7.1) "
        "| +5.1 (+3.1 to +7.1) | +5.1 (+3.1 to +7.1) | better |"
    ) in said
    assert "| land | land | 7 | mean of 2 | 3.000 -> 2.495 | +0.505 (+0.405 to +0.605)" in said
    assert "| sea | sea | 7 | mean of 2 | 3.000 -> 2.895 | +0.105 (+0.005 to +0.205)" in said
    assert "no measurable change |" in said
    assert "sea on sea (1,000 words): 300 texts, 2 labels, the most common has 50.0%; 1 of them" in said
    assert "over 4 runs: +1.00 (by ranks +1.00). There are 2 texts." in said
    assert len(found["rows"]) == 4
    assert [row["seeds"] for row in found["means"]] == [2, 2]


def test_a_run_that_is_in_the_file_is_not_repeated(table_of):
    table_of(*PAIRS, "--seeds", "1", "--steps", "7")
    _, found, runs = table_of(*PAIRS, "--text", "sky.txt", "--probe", "sky.csv", "--seeds", "1", "--steps", "7", "9")
    assert [run[::3] for run in runs[2:]] == [("sky.txt", 7), ("sea.txt", 9), ("land.txt", 9), ("sky.txt", 9)]
    assert len(found["rows"]) == 6
    said, _, runs = table_of(*PAIRS, "--seeds", "0")
    assert len(runs) == 6
    assert "over 6 runs" in said


def test_a_text_without_its_task_is_refused(table_of, capsys):
    with pytest.raises(SystemExit):
        table_of(*PAIRS, "--text", "sky.txt")
    assert "3 texts and 2 probes: give each text its --probe" in capsys.readouterr().err.replace("--text", "text")


def test_there_is_no_correlation_of_two_runs_or_of_runs_that_gain_the_same(benchmark):
    row = {name: {"change": 0.1} for name in ("loss", "accuracy")}
    assert benchmark("task_gain").correlation([row] * 2) is None
    assert benchmark("task_gain").correlation([row] * 9) is None
