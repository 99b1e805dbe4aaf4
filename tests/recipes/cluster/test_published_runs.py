"""A plan is held against runs whose time was published."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ROOT
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

from mlm_recipes.recipes.cluster.accelerators import ACCELERATORS
from mlm_recipes.recipes.cluster.cluster_plan import ClusterPlan, plan_cluster
from mlm_recipes.recipes.cluster.cluster_request import ClusterRequest
from mlm_recipes.recipes.cluster.memory import activation_bytes, memory_by_strategy
from mlm_recipes.recipes.cluster.model_shape import shape_of, typical_shape
from mlm_recipes.recipes.cluster.published_runs import PUBLISHED

RUNS = {run.shape.described: run for run in PUBLISHED}


def planned(name, **changes) -> ClusterPlan:
    """Plan a published run from its parameters alone, as a reader of the paper would."""
    run = RUNS[name]
    asked = {"params": run.shape.parameters, "tokens": run.tokens, "gpus": run.gpus, "gpu": run.gpu,
             "max_length": run.length, "mlm_probability": min(run.predicted, 0.15 if run.predicted == 1 else 1),
             "sparse_prediction": run.predicted < 1}  # fmt: skip
    return plan_cluster(ClusterRequest(**(asked | changes)))


@pytest.mark.parametrize(
    ("name", "hours"), [("MosaicBERT-base", 1.13), ("BERT-base", 11.5), ("ModernBERT-base", 194.2)]
)
def test_a_published_run_takes_the_planned_time_to_a_quarter(name, hours):
    """With the usual share, from the number of parameters, which stands for BERT's shape, and the run's own rows."""
    assert planned(name)["time"] / 3600 == pytest.approx(hours, rel=0.25)


def test_a_plan_by_the_config_of_a_published_model_is_as_near(tmp_path):
    ModernBertConfig().save_pretrained(tmp_path)
    plan = planned("ModernBERT-base", params=None, model=str(tmp_path))
    assert plan["time"] / 3600 == pytest.approx(194.2, rel=0.05)
    assert plan.shape.parameters == pytest.approx(149e6, rel=0.01)


def test_every_published_time_is_between_the_slowest_and_the_fastest():
    for name, run in RUNS.items():
        exact = run.tokens * run.shape.operations_per_token(run.length, run.predicted)
        ratio = exact / planned(name)["operations"]  # of the model's shape to the assumed one
        hours = run.hours * 3600 * (1 + 1e-9)
        assert planned(name)["time, fastest"] * ratio <= hours
        assert planned(name)["time, slowest"] * ratio >= hours * (1 - 2e-9)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BERT-base", BertConfig()),
        ("ModernBERT-base", ModernBertConfig()),
        (
            "ModernBERT-large",
            ModernBertConfig(hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, intermediate_size=2624),
        ),
    ],
)
def test_the_shapes_of_published_models_are_those_that_transformers_builds(name, config):
    with torch.device("meta"):
        found = shape_of(AutoModelForMaskedLM.from_config(config), config)
    ours = RUNS[name].shape
    for field in ("encoder", "head", "hidden", "intermediate", "gated", "vocabulary", "spans"):
        assert getattr(found, field) == getattr(ours, field), field
    assert found.parameters == pytest.approx(ours.parameters, rel=0.01)


def test_operations_are_those_that_the_benchmarks_count(benchmark):
    config = BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2, intermediate_size=128)
    model = AutoModelForMaskedLM.from_config(config)
    counted = benchmark("workload").model_flops(model, [128] * 4, masked=77)
    assert 512 * shape_of(model, config).operations_per_token(128, 77 / 512) == pytest.approx(counted, rel=1e-12)


def test_the_memory_of_this_library_is_the_measured_one_to_a_quarter():
    """On one H200, of bert-base with AdamW: what torch allocated at most."""
    measured = json.loads(sorted(ROOT.glob("benchmarks/results/gpu_*.json"))[-1].read_text("utf-8"))["cases"]
    bert, compared = typical_shape(109.5e6), 0
    for case in measured.values():
        for row in case["rows"]:
            if row["row"].startswith("ours") and case["model"] == "bert-base":
                tokens = row["turns"][0]["window_tokens"][0] / row["turns"][0]["steps"]
                kept = activation_bytes(bert, tokens, 0.15, bf16_residual="bf16_residual" in row["row"])
                (memory,) = memory_by_strategy(bert, 1, muon=False, activations=kept)
                assert memory.total == pytest.approx(row["peak_memory_bytes"], rel=0.25), case
                compared += 1
    assert compared >= 2


def test_the_page_shows_what_was_published_and_what_is_planned():
    page = (ROOT / "docs/many-machines.md").read_text("utf-8")
    for name, run in RUNS.items():
        planned_hours = run.hours * run.share / 0.25
        row = f"| {name} | {run.gpus} {run.gpu} | {run.hours:g} | {run.share:.1%} | {planned_hours:.3g} |"
        assert row in page, row
    for each in ACCELERATORS:
        size, peak = f"{each.memory / 1e9:.0f} GB", f"{each.peak / 1e12:.0f} TFLOP/s {each.dtype}"
        assert f"| {each.name} | {size} | {peak} | {each.source} |" in page, each.name
