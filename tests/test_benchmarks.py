"""What the benchmarks leave behind; what they measure, `make bench` and `make parity` run."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from dataclasses import fields

import pytest
import torch
from conftest import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    """Import one of the scripts as it is imported when run: its folder comes first on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_a_result_says_when_and_on_what_it_was_measured(benchmark, tmp_path, capsys):
    path = benchmark("result_file").write_result(tmp_path / "new", "step", {"rows": [1]})
    assert path == benchmark("result_file").result_path(tmp_path / "new", "step")
    assert str(path) in capsys.readouterr().out
    result = json.loads(path.read_text("utf-8"))
    assert list(result) == ["date", "machine", "versions", "rows"]
    assert path.name == f"step_{result['machine']['processor']}-{result['machine']['cores']}cores_{result['date']}.json"
    assert result["versions"]["torch"]
    assert result["rows"] == [1]


def test_the_rows_of_a_day_can_be_measured_one_after_another(benchmark, tmp_path, monkeypatch):
    adaptation = benchmark("adaptation")

    def measure(text, model, seed, general, changes):
        measured = {"loss": 2.0, "accuracy": 0.5, "masked_tokens": 9}
        return {
            "text": text, "model": model, "seed": seed, "gain": {"loss": 1.0, "low": 0.5, "high": 1.5},
            "before": measured, "after": measured, "general": {"text": general}, "epochs": 1.0,
            "seconds": 1.0, "steps": 1, "batch": 1,
        }  # fmt: skip

    def texts(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptation.py", "--output", str(tmp_path), "--seeds", "1", *arguments])
        adaptation.main()
        (path,) = tmp_path.iterdir()
        return [(row["text"], row["model"]) for row in json.loads(path.read_text("utf-8"))["rows"]]

    monkeypatch.setattr(adaptation, "measure", measure)
    first = [("a", "mini"), ("a", "mini-random")]
    assert texts("--text", "a") == first
    assert texts("--text", "b", "--model", "mini", "--add") == [*first, ("b", "mini")]
    assert texts("--text", "b", "--model", "mini") == [("b", "mini")]


def test_a_bf16_residual_is_compared_seed_by_seed(benchmark):
    script = benchmark("bf16_residual")
    runs = [
        {"start": "mini", "seed": seed, "bf16_residual": residual, "steps": 200, "curve": [9.0, 7.0, 5.0, loss],
         "held_out": 2.0 * loss, "held_out_autocast": loss}
        for seed, residual, loss in [(0, False, 3.0), (0, True, 3.5), (1, False, 4.0), (1, True, 4.25)]
    ]  # fmt: skip
    first, held_out, autocast = script.compared(runs)
    assert first["measure"] == "training, step 100"  # the only one within 200 steps
    assert first["float32"] == {"mean": 8.0, "spread": 0.0}  # the first two means of fifty steps
    assert held_out["difference"]["mean"] == 0.75
    assert autocast["float32"]["mean"] == 3.5
    assert autocast["bf16"]["mean"] == 3.875
    assert autocast["difference"] == {"mean": 0.375, "spread": pytest.approx(0.125 * 2**0.5)}
    assert (
        script.table_of([autocast])
        == "| mini | held out, autocast | 3.5000 (0.7071) | 3.8750 (0.5303) | +0.3750 (0.1768) |"
    )
    (alone, *_) = script.compared(runs[:2])
    assert alone["difference"]["spread"] is None


@pytest.mark.slow
def test_a_step_in_float32_says_by_which_instructions(benchmark, tmp_path, monkeypatch, capsys):
    """Two rows of the table on three short paragraphs: as many as need no minute."""
    step = benchmark("step")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {word} of a short text." for word in "abcdefghijklmnopqrstuvwxyz" * 2), "utf-8")
    rows = tuple(row for row in step.ROWS_FLOAT32 if row.whose == "peer" or row.lean)
    monkeypatch.setattr(step, "ROWS_FLOAT32", (step.TUTORIAL, *rows))
    monkeypatch.setattr(step, "LENGTH", 16)
    monkeypatch.setattr(step, "matrix_rate", lambda device, dtype: {"any": 1e12})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    arguments = ["--float32", "--sizes", "mini", "--text", str(text), "--output", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["step.py", *arguments])
    step.main()
    (path,) = (tmp_path / "results").iterdir()
    result = json.loads(path.read_text("utf-8"))
    instructions = torch.backends.cpu.get_cpu_capability()
    assert path.name.startswith(f"step_{result['machine']['processor']}-{instructions.lower()}-")
    assert result["machine"]["instructions"] == instructions
    assert result["machine"]["settings"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    figures = result["sizes"]["mini"]
    assert list(figures["matrix_flops_per_second"]) == ["float32"]
    assert [row["row"] for row in figures["rows"]] == [row.name for row in step.ROWS_FLOAT32]
    assert figures["rows"][1]["times_peer_as_run"] == figures["rows"][2]["times_peer_at_best"] == 1
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["step.py", "--tables", str(path)])
    step.main()
    assert step.table_of(figures) in capsys.readouterr().out


@pytest.mark.parametrize("table", ["ROWS", "ROWS_FLOAT32"])
def test_each_row_of_ours_turns_one_switch(benchmark, table):
    step = benchmark("step")
    ours = [row for row in getattr(step, table) if row.whose == "ours" and not row.only_full]
    for row, following in itertools.pairwise(ours):
        switches = {item.name for item in fields(row) if item.name != "name"}
        assert len([name for name in switches if getattr(row, name) != getattr(following, name)]) == 1
    assert ours[-1].lean
    assert any(row.bf16 for row in getattr(step, table)) is (table == "ROWS")
