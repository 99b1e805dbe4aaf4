"""What RayReport reports, and the example of docs/many-machines.md under Ray Train, with a worker that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT
from safetensors.torch import load_file
from small_run import NUMBERED, make_trainer
from test_docs import blocks

from mlm_recipes.checkpoints.storage import fault
from mlm_recipes.training.callbacks.ray_report import RayReport

#: Ray's own.
_KINDS = ("DeprecationWarning", "FutureWarning", "ResourceWarning")
WARNINGS = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in _KINDS]

STEPS, EVERY, DIES = 12, 5, 9
VALUES = {
    "save_strategy": "steps", "save_steps": EVERY, "max_steps": STEPS, "general_corpus": "none", "max_length": 32,
    "per_device_train_batch_size": 2, "use_cpu": True, "eval_draws": 1, "pseudo_perplexity_tokens": 64,
    "prompts_compared": 5, "logging_steps": 1,
}  # fmt: skip


def under_ray(test):
    for mark in (pytest.mark.slow, *WARNINGS):
        test = mark(test)
    return test


@pytest.fixture
def reports(monkeypatch):
    """What is reported, with a module in the place of Ray's: the figures, and the checkpoint's folder."""
    found = []
    train = types.ModuleType("ray.train")
    train.report = lambda metrics, checkpoint=None: found.append((metrics, checkpoint))
    train.Checkpoint = types.SimpleNamespace(from_directory=lambda folder: folder)
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.train", train)
    return found


def test_a_checkpoint_has_the_figures_of_its_step_and_no_log_is_lost(tokenizer, reports):
    report = RayReport(seconds=3600)
    trainer = make_trainer(tokenizer, NUMBERED, callback=report, logging_steps=2, save_steps=3)
    trainer.log({"before": 1.0})
    trainer.train()
    assert "train_loss" in reports[-1][0]["logged"][-1]  # what was left at the end of training
    trainer.log({"after": 2.0})
    saved = [(figures, folder) for figures, folder in reports if folder is not None]
    assert [folder for _, folder in saved] == [
        str(Path("run/checkpoint-3").resolve()),
        str(Path("run/checkpoint-6").resolve()),
    ]
    (third, _), (sixth, _) = saved
    assert set(third) == {"step", "epoch"}  # nothing was logged at that step
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    assert (sixth["step"], sixth["loss"]) == (6, losses[6])
    others = [figures for figures, folder in reports if folder is None]
    assert (others[0]["step"], others[0]["before"]) == (0, 1.0)
    assert (others[-1]["step"], others[-1]["after"]) == (6, 2.0)
    logged = [log for figures in others for log in figures["logged"]]
    assert [(log["step"], log["loss"]) for log in logged if "loss" in log] == [*losses.items()]
    # Before and after training at once; in training when it is time, which is once at its start, and at its end.
    assert len(others) <= 4


def test_with_no_time_between_them_each_log_is_a_report(tokenizer, reports):
    make_trainer(tokenizer, NUMBERED, callback=RayReport(seconds=0), logging_steps=1, save_strategy="no").train()
    assert [figures["step"] for figures, _ in reports if "loss" in figures][:6] == [1, 2, 3, 4, 5, 6]
    assert all(len(figures["logged"]) == 1 for figures, _ in reports)


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ValueError, match=r"RayReport needs a package that is not installed here: ray\[train\]\. Accepted: "
    ):
        RayReport()


@pytest.fixture(scope="module")
def fit(checkpoint, short_text, tmp_path_factory):
    """The example's result, and the folder that its machines share."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mlm-recipes[ray]'")
    shared = tmp_path_factory.mktemp("shared")
    (shared / "notes.txt").write_bytes(Path(short_text).read_bytes())
    pages = blocks((ROOT / "docs/many-machines.md").read_text("utf-8"), "python")
    (code,) = (block for block in pages if "RayReport" in block)
    here = {
        'SHARED = "/shared"': f"SHARED = {str(shared)!r}",
        "use_gpu=True": "use_gpu=False",
        '{"save_strategy": "steps", "save_steps": 100}': f"{VALUES | {'model': str(checkpoint)}!r}",
        "RunConfig(name": f"RunConfig(callbacks=[Kept({str(shared / 'reported')!r})], name",
        "[RayReport()]": f"[RayReport(), Dies({str(shared / 'died')!r}, {DIES})]",
    }
    for before, after in here.items():
        assert code.count(before) == 1, before
        code = code.replace(before, after)
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise it writes a token into the home folder
        size = {"num_cpus": 2, "object_store_memory": 200 * 2**20}
        ray.init(**size, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
        try:
            space = {}
            exec(compile(f"from ray_workers import Dies, Kept\n{code}", "docs/many-machines.md", "exec"), space)
        finally:
            ray.shutdown()
    return space["result"], shared


@under_ray
def test_each_step_and_each_checkpoint_is_reported(fit):
    result, shared = fit
    assert result.error is None
    assert (shared / "died").is_file()
    reports = [json.loads(line) for line in (shared / "reported").read_text("utf-8").splitlines()]
    assert {report["workers"] for report in reports} == {2}
    logged = [log for report in reports for log in report.get("logged", [])]
    steps = [log["step"] for log in logged if "loss" in log]
    after = [*range(EVERY + 1, STEPS + 1)]
    assert steps[-len(after) :] == after
    before = steps[: -len(after)]  # the last ones before the kill were not reported yet
    assert before == [*range(1, len(before) + 1)]
    assert len(before) < DIES
    assert [log["step"] for log in logged if "eval_loss" in log] == [0, 0, STEPS]  # before training, at each start
    checkpoints = [report for report in reports if report["checkpoint"]]
    assert [report["step"] for report in checkpoints] == [EVERY, 2 * EVERY, STEPS]
    assert all("loss" in report and "eval_loss" not in report for report in checkpoints)
    metrics = json.loads((shared / "runs/notes/metrics.json").read_text("utf-8"))
    assert result.metrics["step"] == STEPS
    assert result.metrics["loss"] == metrics["train"]["history"][-1]["loss"]
    assert result.return_value["after"] == metrics["after"]


@under_ray
def test_rays_copy_of_a_checkpoint_is_whole_and_loads(fit):
    result, shared = fit
    copies = sorted((shared / "ray/notes").glob("checkpoint_*/"))
    assert [fault(each) for each in copies] == [None] * 3
    assert Path(result.checkpoint.path) == copies[-1]
    steps = [json.loads((each / "trainer_state.json").read_text("utf-8"))["global_step"] for each in copies]
    assert steps == [EVERY, 2 * EVERY, STEPS]
    ours = load_file(shared / f"runs/notes/checkpoint-{STEPS}/model.safetensors")
    assert all((ours[name] == each).all() for name, each in load_file(copies[-1] / "model.safetensors").items())


@under_ray
def test_after_a_worker_was_killed_the_run_ends_with_the_weights_of_an_undisturbed_one(fit, checkpoint, tmp_path):
    _, shared = fit
    metrics = json.loads((shared / "runs/notes/metrics.json").read_text("utf-8"))
    assert [each["step"] for each in metrics["train"]["resumed"]] == [EVERY]
    assert metrics["train"]["processes"] == 2
    values = VALUES | {"corpus": shared / "notes.txt", "model": checkpoint, "output_dir": tmp_path / "whole"}
    options = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    launch = ["--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "mlm_recipes", "train", "adapt", *options],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    whole, again = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", shared / "runs/notes"))
    assert whole.keys() == again.keys()
    assert max(float((whole[name] - again[name]).abs().max()) for name in whole) == 0.0
    start = load_file(checkpoint / "model.safetensors")
    assert max(float((start[name] - again[name]).abs().max()) for name in again) > 0.0
