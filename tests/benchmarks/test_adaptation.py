"""Which rows benchmarks/adaptation.py keeps; no model is trained."""

from __future__ import annotations

import json
import sys


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
