from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from transformers.integrations import TensorBoardCallback

from mlm_recipes import MLMConfig, evaluate, reference, train
from mlm_recipes.training.callbacks.trackers import refuse_missing

SHORT = {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": 32, "logging_steps": 1}


def scalars(folder):
    """Return what TensorBoard reads from a run folder: the points of each name, as (step, value)."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    found = {}
    for place in {path.parent for path in Path(folder).rglob("events.out.tfevents.*")}:
        events = accumulator.EventAccumulator(str(place))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found[tag] = found.get(tag, []) + [(event.step, event.value) for event in events.Scalars(tag)]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    folder = tmp_path_factory.mktemp("tracked") / "run"
    return train(
        "quickstart",
        corpus=str(short_text),
        output_dir=str(folder),
        report_to="tensorboard",
        save_strategy="steps",
        save_steps=2,
        **SHORT,
    )


def assert_before_and_after(found, metrics):
    before, after, gain = metrics["before"], metrics["after"], metrics["gain"]
    for name in ("loss", "accuracy", "perplexity", "masked_tokens"):
        assert found[f"eval/before/{name}"] == [(0, pytest.approx(before[name], rel=1e-6))]
        assert found[f"eval/after/{name}"] == [(3, pytest.approx(after[name], rel=1e-6))]
    for name in ("loss", "low", "high", "paragraphs"):
        assert found[f"eval/gain/{name}"] == [(3, pytest.approx(gain[name], rel=1e-6))]
    for when, step, measured in (("before", 0, before), ("after", 3, after)):
        assert found[f"eval/{when}/general/loss"] == [(step, pytest.approx(measured["general"]["loss"], rel=1e-6))]
    # The curve of the frozen masks, one draw of them, begins and ends with the same figures.
    for name, inner in (("loss", lambda measured: measured), ("general_loss", lambda measured: measured["general"])):
        ends = [inner(metrics[when])["first_draw"]["loss"] for when in ("before", "after")]
        assert [step for step, _ in found[f"eval/{name}"]] == [0, 3]
        assert [value for _, value in found[f"eval/{name}"]] == pytest.approx(ends, rel=1e-6)


@pytest.mark.slow
def test_tensorboard_has_before_and_after_besides_trainers_figures(run):
    found = scalars(run.output_dir)
    assert_before_and_after(found, run.metrics)
    logged = [(entry["step"], pytest.approx(entry["loss"], rel=1e-6)) for entry in run.metrics["train"]["history"]]
    assert found["train/loss"] == logged
    assert {"train/learning_rate", "train/grad_norm"} <= set(found)


@pytest.mark.slow
def test_all_tracker_files_are_in_the_run_folder(run):
    assert len({path.parent for path in run.output_dir.rglob("events.out.tfevents.*")}) == 1
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_a_resumed_run_is_tracked_too(run, short_text):
    resumed = train(run.output_dir, resume_from_checkpoint=str(run.output_dir / "checkpoint-2"), output_dir="resumed")
    found = scalars("resumed")
    assert_before_and_after(found, resumed.metrics)
    assert [step for step, _ in found["train/loss"]] == [3]


@pytest.mark.slow
def test_measuring_a_tracked_run_again_writes_nothing(run):
    assert yaml.safe_load((run.output_dir / "recipe.yaml").read_text("utf-8"))["report_to"] == ["tensorboard"]
    there = sorted(run.output_dir.rglob("*"))
    evaluate(run.output_dir)
    assert sorted(run.output_dir.rglob("*")) == there
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_a_tracker_opens_before_the_first_figure_and_closes_after_the_last(short_text, monkeypatch):
    """Once closed, MLflow and Trackio start another run for later figures."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    events = []
    for event in ("on_train_begin", "on_log", "on_train_end"):
        monkeypatch.setattr(TensorBoardCallback, event, lambda *given, event=event, **named: events.append(event))
    train("quickstart", corpus=str(short_text), report_to="tensorboard", **SHORT)
    assert (events[0], events[-1]) == ("on_train_begin", "on_train_end")
    assert set(events[1:-1]) == {"on_log"}


@pytest.mark.slow
def test_a_tracker_is_closed_when_training_fails(short_text, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    closed = []
    monkeypatch.setattr(TensorBoardCallback, "on_train_end", lambda *given, **named: closed.append(1))
    monkeypatch.setattr("mlm_recipes.training.trainer.MLMTrainer.train", lambda *given, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train("quickstart", corpus=str(short_text), report_to="tensorboard", **SHORT)
    assert closed == [1]


@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_missing_tracker_is_an_error_before_any_work(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda given, *more: None)
    with pytest.raises(ValueError, match=f"'{name}' needs a package that is not installed here.*pip install {name}"):
        train("quickstart", corpus="no-such-corpus", report_to=name)
    assert not list(Path.cwd().iterdir())


def test_an_unknown_tracker_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'tensorboard'"):
        train("quickstart", corpus="no-such-corpus", report_to="tensorbord")
    refuse_missing([])


def test_the_loop_by_hand_has_no_trackers():
    with pytest.raises(ValueError, match="report_to"):
        reference("tutorial", model="mini", report_to="tensorboard")


def test_nothing_is_reported_by_default():
    assert MLMConfig(use_cpu=True).report_to == []
    for path in ROOT.glob("recipes/*.yaml"):
        assert "report_to" not in yaml.safe_load(path.read_text("utf-8"))


#: In a process of its own no fixture spares a measurement.
QUICK = {"max_eval_samples": 4, "general_corpus": "none"}


@pytest.mark.slow
def test_a_run_without_a_tracker_opens_no_connection(short_text):
    """In a process that ends if a socket is connected or a name is looked up, without the offline switch."""
    code = (
        "import os, sys\n"
        "def watch(event, given):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        print(event, given, file=sys.stderr)\n"
        "        os._exit(9)\n"
        "sys.addaudithook(watch)\n"
        "if sys.argv[1] == 'try':\n"
        "    import socket; socket.getaddrinfo('localhost', 80)\n"
        "from mlm_recipes.cli import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_HUB")}

    def ended(how):
        values = [f"--{name}={value}" for name, value in (SHORT | {"max_steps": 1} | QUICK).items()]
        command = [sys.executable, "-c", code, how, "train", "--corpus", str(short_text), *values]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert ended("try").returncode == 9  # the watch watches
    done = ended("run")
    assert done.returncode == 0, done.stderr
    assert Path("runs/notes/metrics.json").exists()
