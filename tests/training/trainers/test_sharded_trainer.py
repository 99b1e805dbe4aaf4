"""FSDP in two and four processes trains as one process does; what any number saves, any other resumes.

`as_if_on_accelerators` (tests/cpus_as_accelerators.py) lets accelerate start FSDP on a CPU.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from launched import run_together
from same_run import assert_same_logs, assert_same_weights
from sharded_on_cpu import STEPS, model_of, run
from transformers import AutoModelForMaskedLM

from mlm_recipes.checkpoints.sharded_states import FOLDER, VALUES
from mlm_recipes.checkpoints.storage import fault

pytestmark = pytest.mark.slow

ADAMW = {"adam_epsilon": 1e-8, "learning_rate": 1e-3}
MUON = {"muon": True, "learning_rate": 0.02}

#: Each is the run of one process with the same values.
AS_ONE = {
    "bert": {},
    "modernbert": {"architecture": "modernbert"},
    "mpnet": {"architecture": "mpnet"},  # without padding_free: DDP would compute its batches in parts
    "albert": {"architecture": "albert"},  # one layer, which is passed through several times
    "narrow": {"architecture": "narrow", **MUON},  # of four processes, two have no row of several matrices
    "bf16": {"bf16": True, "architecture": "modernbert"},
}

#: Each is the run of one process with BERT.
AS_BERT = {
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "recomputed": {"gradient_checkpointing": True},
    "padded": {"padding_free": False},
    "dense": {"sparse_prediction": False},
    "kept whole": {"fsdp_config": {"reshard_after_forward": False, "state_dict_type": "SHARDED_STATE_DICT"}},
    "disturbed": {"disturbed": True},  # the main process's weights count
    # Of five rows, one process has three batches to measure afterwards, the other two.
    "evaluated": {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True, "per_device_eval_batch_size": 1},
    "the best": {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True},
}


def in_processes(number: int, folder: Path, jobs: dict) -> dict:
    """Run jobs of tests/sharded_on_cpu.py; return what each has found."""
    folder.mkdir(exist_ok=True)
    script = ROOT / "tests/sharded_on_cpu.py"
    done = run_together(number, script, folder, json.dumps(jobs), cwd=folder, timeout=900)
    assert "returned a view tensor" not in done.stderr
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def one(place):
    """What a single process finds without FSDP."""
    found = {name: run(place / "one" / name, **values) for name, values in AS_ONE.items()}
    found |= {"adamw": run(place / "one/adamw", **ADAMW), "muon": run(place / "one/muon", **MUON)}
    return found


@pytest.fixture(scope="module")
def two(one, place):
    jobs = {name: {"fsdp": True, **values} for name, values in {**AS_ONE, **AS_BERT}.items()}
    for name, values in (("adamw", ADAMW), ("muon", MUON)):
        jobs[name] = {"fsdp": True, **values}
        jobs[f"{name} resumed"] = jobs[name] | {"resume": str(place / f"two/{name}/checkpoint-2")}
        jobs[f"{name} of one"] = jobs[name] | {"resume": str(place / f"one/{name}/checkpoint-2")}
        jobs[f"{name} with DDP"] = values | {"resume": str(place / f"two/{name}/checkpoint-2")}
    return in_processes(2, place / "two", jobs)


@pytest.fixture(scope="module")
def four(two, place):
    jobs = {"narrow": {"fsdp": True, **AS_ONE["narrow"]}}
    for name, values in (("adamw", ADAMW), ("muon", MUON)):
        jobs[name] = {"fsdp": True, **values}
        jobs[f"{name} of two"] = jobs[name] | {"resume": str(place / f"two/{name}/checkpoint-2")}
    return in_processes(4, place / "four", jobs)


def assert_same(found, expected, name="bert", steps=STEPS):
    start = model_of(name)
    assert_same_logs(found[0], expected[0][-len(found[0]) :], start)
    assert_same_weights(found[1], expected[1], start, steps)
    assert found[2] == pytest.approx(expected[2], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in AS_ONE if name not in ("bf16", "narrow")])
def test_two_shares_are_the_run_of_one(one, two, name):
    assert_same(two[name], one[name], name)


@pytest.mark.parametrize("name", AS_BERT)
def test_options_change_nothing(one, two, name):
    assert_same(two[name], one["bert"])


def test_bf16_rounds_as_in_a_single_process(one, two):
    eps = torch.finfo(torch.bfloat16).eps
    for found, expected in zip(two["bf16"][0], one["bf16"][0], strict=True):
        assert found == pytest.approx(expected, rel=4 * eps)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_adamw_and_muon_are_those_of_one_process(one, two, four, name):
    for found in (two[name], four[name]):
        for mine, other in zip(found[0], one[name][0], strict=True):
            assert mine == pytest.approx(other, rel=1e-5)
        assert (found[1] - one[name][1]).abs().max() <= 1e-6
    assert (one[name][1] - one["bert"][1]).abs().max() > 1e-3  # the optimizer makes a difference


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_goes_on_with_any_number_of_processes_with_fsdp_or_without(one, two, four, place, name):
    values = {"adamw": ADAMW, "muon": MUON}[name]
    alone = [run(place / f"again {at}", resume=place / at / name / "checkpoint-2", **values) for at in ("two", "four")]
    others = [two[f"{name} of one"], two[f"{name} with DDP"], four[f"{name} of two"]]
    for found in [*alone, *others]:
        assert (found[1] - one[name][1]).abs().max() <= 1e-6
    assert torch.equal(two[f"{name} resumed"][1], two[name][1])  # to the last bit


def test_shares_without_a_row_are_not_confused(one, two, four):
    for found in (two["narrow"], four["narrow"]):
        assert (found[1] - one["narrow"][1]).abs().max() <= 1e-5


def test_a_checkpoint_is_whole_has_no_pickled_shares_and_loads(two, place):
    checkpoint = place / "two/muon/checkpoint-4"
    assert fault(checkpoint) is None
    shares = sorted(path.name for path in (checkpoint / FOLDER).iterdir())
    assert [name for name in shares if name != VALUES] == [
        f"shard-0000{number}-model-00001-of-00001.safetensors" for number in (1, 2)
    ]
    listed = json.loads((checkpoint / "manifest.json").read_text())["files"]
    assert {f"{FOLDER}/{name}" for name in shares} <= listed.keys()
    assert {path.name for path in checkpoint.iterdir() if path.suffix in (".pt", ".pth", ".bin")} == {
        "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth",
    }  # fmt: skip
    model = AutoModelForMaskedLM.from_pretrained(checkpoint)
    assert type(model).__name__ == "BertForMaskedLM"
    assert model.config.architectures == ["BertForMaskedLM"]
    assert torch.equal(torch.cat([weight.detach().flatten() for weight in model.parameters()]), two["muon"][1])


def test_a_share_that_was_changed_is_noticed(two, place, tmp_path):
    copy = shutil.copytree(place / "two/bert/checkpoint-2", tmp_path / "checkpoint-2")
    path = next((copy / FOLDER).glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        run(tmp_path / "again", resume=copy)
