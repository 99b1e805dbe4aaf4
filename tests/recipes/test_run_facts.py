from __future__ import annotations

import shlex
import sys

import pytest
import torch

from mlm_recipes.recipes.run_facts import command_line, peak_memory

PROGRAM = "/somewhere/.venv/bin/mlm-recipes"


def test_a_command_line_is_what_was_typed_and_not_where_it_lies():
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
def test_secrets_are_left_out(typed):
    found = command_line([PROGRAM, "train", *typed, "--max_steps", "5"])
    assert "geheim" not in found
    assert "***" in found
    assert found.endswith("--max_steps 5")


def test_a_flag_that_follows_a_secrets_is_no_secret():
    assert command_line([PROGRAM, "--use_token", "--max_steps", "5"]) == "mlm-recipes --use_token --max_steps 5"


def test_a_program_of_ones_own_is_not_a_command_line_of_ours(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/secret_project.py", "--x"])
    assert command_line() is None


def test_the_peak_is_that_of_this_process():
    found = peak_memory(torch.device("cpu"))
    assert found["of"] == "process"
    assert 50e6 < found["bytes"] < 100e9
    held = torch.ones(40_000_000)  # 160 MB
    assert peak_memory(torch.device("cpu"))["bytes"] >= found["bytes"]
    del held
