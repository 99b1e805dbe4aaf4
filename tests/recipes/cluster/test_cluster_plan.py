"""`mlm-recipes plan`: what it prints, what it assumes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from mlm_recipes import cli
from mlm_recipes.recipes.cluster.accelerators import ACCELERATORS
from mlm_recipes.recipes.cluster.cluster_plan import plan_cluster
from mlm_recipes.recipes.cluster.cluster_request import ClusterRequest
from mlm_recipes.recipes.cluster.memory import USABLE
from mlm_recipes.training.config import field_names


def plan(**changes):
    return plan_cluster(ClusterRequest(**({"params": 110e6, "tokens": 2e9, "gpus": 8} | changes)))


def test_each_line_says_what_it_assumes_and_the_json_has_the_same_numbers(capsys):
    asked = ["--params", "110M", "--tokens", "2B", "--gpus", "8", "--price", "2.5"]
    assert cli.main(["plan", *asked]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert cli.main(["plan", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["request"]["params"] == 110e6
    lines = {line["name"]: line for line in found["lines"]}
    assert list(lines) == [
        "model", "operations", "time", "time, slowest", "time, fastest", "rate", "steps", "exchange", "checkpoint",
        "failures", "save interval", "save_steps", "time with failures", "cost",
    ]  # fmt: skip
    for name, line in lines.items():
        assert line["assumes"], name
        assert f"{name} {line['shown'].split()[0]}" in shown, name
    # 2 billion tokens of 6 x 85.6M weights, 0.15 x 6 x 24.0M of the head, and 12 x 12 x 768 x 512 of attention
    assert lines["operations"]["value"] == pytest.approx(2e9 * (6 * 85_574_528 + 0.9 * 24_030_720 + 56_623_104))
    assert lines["time"]["value"] == pytest.approx(lines["operations"]["value"] / (0.25 * 8 * 989.4e12))
    assert lines["cost"]["value"] == pytest.approx(8 * 2.5 * lines["time with failures"]["value"] / 3600)
    assert [each["strategy"] for each in found["memory"]] == ["DDP", "FSDP2 kept", "FSDP2"]


def test_it_imports_no_torch_for_a_number_of_parameters():
    import subprocess
    import sys

    code = (
        "import sys; from mlm_recipes import cli; cli.main(['plan', '--params', '110M', '--tokens', '2B'])\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_built_in_model_is_read_from_its_config(capsys):
    assert cli.main(["plan", "--model", "mini", "--tokens", "1B", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["parameters"] == 4_794_880
    assert [each["strategy"] for each in found["memory"]] == ["one GPU"]
    assert "exchange" not in [line["name"] for line in found["lines"]]


def test_memory_falls_from_strategy_to_strategy_and_with_the_number_of_gpus():
    few, many = plan(params=1e9, gpus=8), plan(params=1e9, gpus=64)
    for found in (few, many):
        held = [each.total - each.activations for each in found.memory]
        assert held[0] > held[1] > held[2]
    for one, other in zip(few.memory[1:], many.memory[1:], strict=True):
        assert other.total < one.total
    ddp = few.memory[0]
    assert ddp.weights + ddp.gradients + ddp.optimizer == 16 * 1e9  # as ZeRO's authors count in float32
    for divided in few.memory[1:]:
        assert divided.weights + divided.gradients + divided.optimizer == pytest.approx(16e9 / 8)


def test_the_largest_batch_is_the_largest_that_fits():
    found = plan(gpu="RTX-4090")
    for each in found.memory:
        rows = found.largest_batch(each)
        again = plan(gpu="RTX-4090", per_device_train_batch_size=rows)
        (same,) = [other for other in again.memory if other.strategy == each.strategy]
        assert same.total <= USABLE * 24e9 < same.total + found.row_bytes
    assert plan(params=7e9, gpu="T4").largest_batch(plan(params=7e9, gpu="T4").memory[0]) == 0
    ddp = next(line for line in str(plan(params=7e9, gpu="T4")).splitlines() if line.startswith("DDP  "))
    assert ddp.endswith("none")


def test_options_do_what_they_say():
    usual = plan()
    assert plan(sparse_prediction=False)["operations"] > usual["operations"]
    assert plan(muon=True)["checkpoint"] < usual["checkpoint"]
    assert plan(muon=True).memory[2].optimizer < usual.memory[2].optimizer
    assert plan(bf16_residual=True).row_bytes < usual.row_bytes
    assert plan(gradient_checkpointing=True).row_bytes < usual.row_bytes / 3
    assert plan(gradient_accumulation_steps=4)["steps"] == pytest.approx(usual["steps"] / 4, rel=1e-3)
    assert plan(share=0.5)["time"] == pytest.approx(usual["time"] / 2)
    long = plan(tokens=1e13, gpus=1024)
    assert long["failures"] > 0.1
    assert long["time with failures"] > long["time"]
    assert plan(tokens=1e13, gpus=1024, node_failure_hours=24)["save interval"] < long["save interval"]
    for gpu in [each.name for each in ACCELERATORS]:
        assert plan(gpu=gpu)["time"] > 0


def test_what_a_recipe_has_too_is_named_as_there():
    own = {"tokens", "gpus", "params", "gpu", "share", "gpus_per_node", "node_failure_hours", "save_gb_per_second",
           "restart_minutes", "price", "gradient_checkpointing"}  # fmt: skip
    assert {item.name for item in fields(ClusterRequest)} - own <= set(field_names())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--tokens", "2B"], "params: received neither it nor --model. Accepted: one of them."),
        (["--tokens", "2B", "--params", "1B", "--model", "mini"], "params: received both it and --model."),
        (["--tokens", "many", "--params", "1B"], "tokens: received 'many'. Accepted: a number above zero, with k, M"),
        (["--tokens", "2B", "--params", "1B", "--gpus", "0"], "gpus: received 0. Accepted: a whole number from 1 on."),
        (["--tokens", "2B", "--params", "1B", "--gpus", "1.5"], "gpus: received '1.5'. Accepted: a whole number."),
        (["--tokens", "2B", "--params", "1B", "--gpu", "H10"], "gpu: received 'H10'. Did you mean 'h100'? Accepted: "),
        (["--tokens", "2B", "--params", "1B", "--share", "25"], "share: received 25.0. Accepted: above 0, at most 1."),
        (["--tokens", "2B", "--params", "1B", "--muon", "yes"], "muon: received 'yes'. Accepted: true or false."),
        (["--tokens", "2B", "--params", "1M"], "params: received 1,000,000 with a vocabulary of 30,522"),
        (["--tokens", "2B", "--model", "mini", "--vocab_size", "9"], "vocab_size: received 9 with --model mini."),
        (["--tokens", "2B", "--model", "./nothing"], "model: there is no folder './nothing'. Accepted: a built-in"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(given, says, capsys):
    assert cli.main(["plan", *given]) == 2
    assert capsys.readouterr().err.startswith(f"mlm-recipes: error: {says}")
