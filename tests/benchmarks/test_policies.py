"""How benchmarks/policies.py compares methods and keeps their runs; no model is trained."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.fixture
def policies(benchmark, tmp_path, monkeypatch):
    """benchmarks/policies.py without training: what the methods cost and reach is given, and which run is recorded."""
    policies = benchmark("policies")
    seconds = {"token 40%": 1.0, "token 15%": 0.5}
    nats = {"token 40%": 3.0, "token 15%": 2.5}

    def measure(recipe, values, seed, steps, pace):
        (name,) = (name for name in nats if policies.ADAPTING[name].items() <= values.items() and name in policies.now)
        policies.ran.append((name, seed, steps))
        sums = [[tokens * nats[name] + tokens * seed, 1.0, 1.0, tokens] for tokens in range(10, 30)]
        total = {"loss": nats[name] + seed, "accuracy": 0.1, "pseudo_perplexity": 9.0, "tokens_per_second": 1000.0}
        return {"steps": steps, "seconds": 1.0, **total, "forgotten": 0.01, "sums": sums}

    def compare(*arguments):
        policies.ran, policies.now = [], [arguments[i + 1] for i, word in enumerate(arguments) if word == "--only"]
        monkeypatch.setattr(sys, "argv", ["policies.py", "adapt", "--output", str(tmp_path), *arguments])
        policies.main()
        return policies.ran

    monkeypatch.setattr(policies, "measure", measure)
    monkeypatch.setattr(
        policies, "seconds_a_step", lambda recipe, methods, turns: {name: seconds[name] for name in methods}
    )
    policies.compare = compare
    return policies


ONE, OTHER = ("--only", "token 40%"), ("--only", "token 15%")


def test_methods_are_compared_in_equal_time_and_runs_are_kept(policies, tmp_path, capsys):
    text = ("--text", "a.txt", "--seeds", "2")
    assert policies.compare(*text, *ONE) == [("token 40%", 0, 60), ("token 40%", 1, 60)]
    assert policies.compare(*text, *OTHER) == [("token 15%", 0, 120), ("token 15%", 1, 120)]
    assert policies.compare(*text, *OTHER) == []
    (path,) = tmp_path.glob("policies-adapt_*.json")
    found = json.loads(path.read_text("utf-8"))
    assert [(row["method"], row["seed"]) for row in found["rows"]] == [
        ("token 40%", 0), ("token 40%", 1), ("token 15%", 0), ("token 15%", 1),
    ]  # fmt: skip
    assert not any("sums" in row for row in found["rows"])
    plain, other = found["table"]
    assert (plain["better_by"], plain["loss"], other["loss"]) == (0, 3.5, 3.0)
    assert other["better_by"] == pytest.approx(0.5)
    assert other["low"] == pytest.approx(other["high"]) == pytest.approx(0.5)  # of every paragraph and seed
    assert other["of_each_seed"] == [0.5, 0.5]
    assert capsys.readouterr().out.endswith(policies.markdown(found["table"]) + "\n")


def test_runs_of_another_length_are_not_mixed_with_those_that_are_kept(policies, capsys):
    policies.compare("--text", "a.txt", "--seeds", "1", *ONE)
    with pytest.raises(SystemExit) as ended:
        policies.compare("--text", "a.txt", "--seeds", "1", "--minutes", "2", *ONE)
    assert ended.value.code == 2
    assert "has runs of 1 minutes" in capsys.readouterr().err


def test_several_texts_are_columns(policies):
    rows = [
        {"text": text, "method": method, "better_by": better, "low": better - low, "high": better + low, "loss": 3.0,
         "forgotten": 0.02, "seeds": seeds}
        for text, method, better, low, seeds in
        [("a", "plain", 0.0, 0.0, 3), ("b", "plain", 0.0, 0.0, 3), ("b", "other", -0.25, 0.5, 1)]
    ]  # fmt: skip
    assert policies.markdown(rows).splitlines() == [
        "| better by | a | b | seeds |",
        "|---|---|---|---|",
        "| plain | loss 3.000 | loss 3.000 | 3 |",
        "| other |  | -0.250 (-0.750 to +0.250) | 1 |",
        "",
        "| general English | a | b | seeds |",
        "|---|---|---|---|",
        "| plain | +0.020 | +0.020 | 3 |",
        "| other |  | +0.020 | 1 |",
    ]
