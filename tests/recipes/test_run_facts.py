from __future__ import annotations

import shlex
import sys

import pytest
import torch
from conftest import make_bert

from mlm_recipes.recipes import run_facts
from mlm_recipes.recipes.run_facts import command_line, peak_memory

PROGRAM = "/somewhere/.venv/bin/mlm-recipes"


def test_a_command_line_has_no_program_path():
    typed = ["train", "recipes/adapt.yaml", "--corpus", "my notes.txt", "--learning_rate=3e-5"]
    found = command_line([PROGRAM, *typed])
    assert shlex.split(found) == ["mlm-recipes", *typed]
    assert command_line(["/x/site-packages/mlm_recipes/__main__.py", "train"]) == "python -m mlm_recipes train"


@pytest.mark.parametrize(
    "typed",
    [
        ["--hub_token", "hf_geheim"],
        ["--hub_token=hf_geheim"],
        ["--corpus", "https://me:geheim@host/text.txt"],
        ["--corpus=https://host/text.txt?signature=geheim&x=1"],
    ],
)
def test_secrets_are_removed(typed):
    found = command_line([PROGRAM, "train", *typed, "--max_steps", "5"])
    assert "geheim" not in found
    assert "***" in found
    assert found.endswith("--max_steps 5")


def test_a_flag_after_a_secret_flag_is_kept():
    assert command_line([PROGRAM, "--use_token", "--max_steps", "5"]) == "mlm-recipes --use_token --max_steps 5"


def test_a_different_program_has_no_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/secret_project.py", "--x"])
    assert command_line() is None


def test_the_peak_memory_is_this_processs():
    found = peak_memory(torch.device("cpu"))
    assert found["of"] == "process"
    assert 50e6 < found["bytes"] < 100e9
    held = torch.ones(40_000_000)  # 160 MB
    assert peak_memory(torch.device("cpu"))["bytes"] >= found["bytes"]
    del held


def test_the_operations_equal_torchs_count(tokenizer):
    """With rows of one token, attention between tokens is negligible; here the head runs on every token."""
    from torch.utils.flop_counter import FlopCounterMode

    model = make_bert(tokenizer)
    ids = torch.randint(5, 100, (64, 1))
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids, labels=ids).loss.backward()
    ours = run_facts.training_flops(run_facts.products_of(model), tokens=64, masked=64)
    # The first layer's backward pass needs no gradient of its input, so torch counts a little less.
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.1)


def test_the_head_counts_on_masked_tokens_only(tiny_bert):
    less = run_facts.training_flops(run_facts.products_of(tiny_bert), tokens=100, masked=10)
    more = run_facts.training_flops(run_facts.products_of(tiny_bert), tokens=100, masked=20)
    head = sum(layer.weight.numel() for layer in tiny_bert.cls.modules() if isinstance(layer, torch.nn.Linear))
    assert more - less == 6 * 10 * head


def test_two_processes_have_twice_the_limit(monkeypatch):
    monkeypatch.setattr(run_facts, "matrix_rate", lambda device, dtype, seconds: 1e9)
    found = run_facts.machine_limit(1e6, torch.device("cpu"), 2.0, 2, torch.bfloat16)
    assert found["matrix_flops_per_second"] == 2e9
    assert found["dtype"] == "bfloat16"
    assert found["flops_per_second"] == 5e5


def test_the_rate_is_measured_in_the_given_dtype():
    device = torch.device("cpu")
    assert run_facts.matrix_rate(device, torch.float64, 0.02) < run_facts.matrix_rate(device, torch.float32, 0.02)
