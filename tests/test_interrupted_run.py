"""A run that an earlier version began goes on to the same weights, and its metrics.json is still drawn."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import ROOT
from safetensors.torch import load_file
from same_run import assert_same_logs, assert_same_weights, flat_weights
from transformers import AutoModelForMaskedLM

from mlm_recipes import train
from mlm_recipes.report.run_report import write

FIXTURE = ROOT / "tests/fixtures/interrupted_run"
STEPS, SAVED = 16, 12


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def logs(metrics, steps):
    return [(entry["loss"], entry["grad_norm"]) for entry in metrics["train"]["history"]][-steps:]


def test_a_checkpoint_of_an_earlier_version_resumes_to_the_same_weights(run):
    """In the same order, with the same masks; what differs is rounding, on another processor."""
    resumed = train("run", resume_from_checkpoint=True)
    assert resumed.metrics["train"]["resumed"] == [{"step": SAVED, "changed": {}}]
    start = AutoModelForMaskedLM.from_pretrained("model")
    left = STEPS - SAVED
    whole = json.loads((FIXTURE / "whole/metrics.json").read_text("utf-8"))
    assert_same_logs(logs(resumed.metrics, left), logs(whole, left), start)
    ended = AutoModelForMaskedLM.from_pretrained("model")
    ended.load_state_dict(load_file(FIXTURE / "whole/model.safetensors"), strict=False)
    found = AutoModelForMaskedLM.from_pretrained("run")
    assert_same_weights(flat_weights(found), flat_weights(ended), start, STEPS)


def test_a_value_that_the_checkpoint_had_not_yet_is_its_default(run):
    with pytest.raises(ValueError, match="masking_policy was 'token' and is now 'span'"):
        train("run", resume_from_checkpoint=True, masking_policy="span")


def test_the_metrics_of_an_earlier_version_are_drawn(run):
    for name in ("metrics.json", "model.safetensors"):
        shutil.copy(FIXTURE / "whole" / name, run)
    for page in write(run):
        assert page.is_file()
