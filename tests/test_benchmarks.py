"""What the benchmarks leave behind; what they measure, `make bench` and `make parity` run."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
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
            "before": measured, "after": measured, "general": {"text": general}, "epochs": 1.0, "seconds": 1.0,
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
