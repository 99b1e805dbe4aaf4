"""The methods of benchmarks/forgetting.py: what they pull, measure and take."""

from __future__ import annotations

import json
import sys

import pytest
import torch


def test_weights_are_pulled_by_the_learning_rate_and_their_importance(benchmark):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    pulls = benchmark("forgetting").Pull(model, 3.0, {"weight": torch.tensor([[1.0, 100.0]])})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.weight.fill_(1.0), model.bias.fill_(1.0)
    pulls.on_optimizer_step(None, None, None, optimizer=optimizer)
    # 1 - 0.1 * 3 * 1; by no more than the whole way; without an importance, 1.
    assert torch.allclose(model.weight, torch.tensor([[0.7, 0.0]]))
    assert torch.allclose(model.bias, torch.tensor([0.7]))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_half_that_is_measured_is_not_trained_on(benchmark, tmp_path, seed):
    files = benchmark("forgetting").halves("general-english", seed, tmp_path)
    measured, rest = ({json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()} for file in files)
    assert len(measured) == len(rest) == 30
    assert not measured & rest


def test_the_mean_of_a_method_against_forgetting_is_over_its_seeds(benchmark):
    rows = [
        {"text": "a", "method": method, "gain": {"loss": gain}, "forgot": {"change": -gain}}
        for method, gain in (("plain", 1.0), ("mix", 5.0), ("plain", 2.0))
    ]
    assert benchmark("forgetting").means(rows) == [
        {"text": "a", "method": "plain", "seeds": 2, "gain": 1.5, "forgot": -1.5},
        {"text": "a", "method": "mix", "seeds": 1, "gain": 5.0, "forgot": -5.0},
    ]


@pytest.mark.slow
def test_methods_against_forgetting_take_the_steps_they_say(benchmark, tmp_path, monkeypatch, short_text):
    """With the same measurement before; the mixture has more steps where it reads the same text."""
    arguments = ["--text", str(short_text), "--steps", "6", "--seeds", "1", "--output", str(tmp_path)]
    for method in ("plain", "mix 0.2", "l2 1000000", "ewc 3"):
        arguments += ["--method", method]
    monkeypatch.setattr(sys, "argv", ["forgetting.py", *arguments])
    monkeypatch.chdir(tmp_path)
    benchmark("forgetting").main()
    (path,) = tmp_path.glob("*.json")
    rows = {row["method"]: row for row in json.loads(path.read_text("utf-8"))["rows"]}
    assert list(rows) == ["plain", "mix 0.2, same steps", "mix 0.2, same text", "l2 1000000", "ewc 3"]
    assert len({row["forgot"]["before"] for row in rows.values()}) == 1
    assert rows["l2 1000000"]["gain"]["loss"] == pytest.approx(0, abs=1e-6), "the pull is the whole way"
    assert len({row["gain"]["loss"] for row in rows.values()}) == 5
    same_text = rows.pop("mix 0.2, same text")
    assert {row["steps"] for row in rows.values()} == {6}
    assert same_text["steps"] > 6
    assert same_text["mixed"][0]["name"] == "rest"
    assert all(row["general_paragraphs"] == 30 for row in rows.values())
