"""No optional output can lose a run: each of them fails here once, after the last step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import metrics_schema
import pytest
from conftest import ROOT

from mlm_recipes import __version__, cli, evaluate, reference, train
from mlm_recipes.evaluation.before_after import State
from mlm_recipes.recipes import result as result_module
from mlm_recipes.recipes import run_folder
from mlm_recipes.recipes.upload import Upload
from mlm_recipes.report import last_screen, run_report
from mlm_recipes.training.distributed.processes import all_or_none
from mlm_recipes.training.faults import tolerated_failures
from mlm_recipes.training.faults.tolerated_failures import NotMadeError

SHORT = {"max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "general_corpus": "none"}
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "recipe.yaml")


@pytest.fixture
def values(checkpoint, short_text):
    return {"model": str(checkpoint), "corpus": str(short_text), "save_strategy": "no", "output_dir": "run"} | SHORT


@pytest.fixture
def flags(values):
    return ["train", "adapt", *(f"--{name}={value}" for name, value in values.items())]


def fail(*given, **named):
    raise RuntimeError("the dog ate it")


def there(*names):
    return [name for name in names if not Path("run", name).is_file()] == []


def said_of(what, shown):
    """Return the one line that reports that something was not made, without the common prefix."""
    (line,) = [line for line in shown.splitlines() if line.startswith(f"mlm-recipes: error: {what}: not made.")]
    assert line.endswith(" The error: RuntimeError: the dog ate it")
    return line


@pytest.mark.slow
def test_optional_metrics_that_fail_are_the_only_ones_missing(flags, monkeypatch, capsys):
    pieces = {
        (result_module, "machine_limit"): "the machine's limit",
        (result_module, "command_line"): "the command line",
        (result_module, "licence_in"): "the original model's licence",
        (result_module, "peak_memory"): "the peak memory",
        (run_folder, "versions"): "the versions",
    }
    with monkeypatch.context() as patch:
        for place in pieces:
            patch.setattr(*place, fail)
        assert cli.main(flags) == tolerated_failures.EXIT_CODE == 3
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    for what in pieces.values():
        said_of(what, shown.err)
    assert there("metrics.json", "report.html", "README.md", *MODEL)
    assert not Path("run/.staged").exists()
    metrics = run_report.read_metrics("run")
    metrics_schema.check(metrics)
    assert metrics["gain"]["loss"] == metrics["before"]["loss"] - metrics["after"]["loss"]
    assert [entry["what"] for entry in metrics["not_made"]] == list(pieces.values())
    assert {entry["why"] for entry in metrics["not_made"]} == {"RuntimeError: the dog ate it"}
    assert metrics["train"]["machine_limit"] is metrics["train"]["peak_memory"] is None
    assert "README.md." in shown.out


@pytest.mark.slow
def test_pages_that_cannot_be_drawn_are_drawn_later(flags, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("mlm_recipes.report.plots.as_svg", fail)  # of report.html
        patch.setitem(run_report.FILES, "README.md", fail)
        assert cli.main(flags) == 3
    shown = capsys.readouterr()
    for name in ("report.html", "README.md"):
        assert "`mlm-recipes report run` writes it again." in said_of(name, shown.err)
        assert not there(name)
    assert there("metrics.json", *MODEL)
    assert "Everything is in run: the model, recipe.yaml, metrics.json." in shown.out
    assert "not_made" not in run_report.read_metrics("run")  # of which nothing is missing
    assert cli.main(["report", "run"]) == 0
    assert there("report.html", "README.md")


@pytest.mark.slow
def test_measurements_are_kept_if_the_comparison_fails(flags, monkeypatch, capsys):
    monkeypatch.setattr("mlm_recipes.evaluation.before_after.gain", fail)
    assert cli.main(flags) == 3
    shown = capsys.readouterr()
    assert "report.html and README.md" in said_of("the comparison of before and after", shown.err)
    metrics = json.loads(Path("run/metrics.json").read_text("utf-8"))
    metrics_schema.check(metrics)
    assert "gain" not in metrics
    assert metrics["before"]["loss"] != metrics["after"]["loss"]
    assert f"{metrics['after']['loss']:.3f}" in shown.out
    assert "could not be compared" in shown.out
    assert there(*MODEL)
    with pytest.raises(ValueError, match=r"no comparison.*the dog ate it.*mlm-recipes evaluate run"):
        run_report.write("run")
    assert evaluate("run").metrics["evaluation"]["loss"] == pytest.approx(metrics["after"]["loss"], abs=1e-6)


@pytest.mark.slow
def test_a_failed_upload_loses_nothing(flags, monkeypatch, capsys):
    monkeypatch.setattr(Upload, "open", lambda *given: Upload("me/mine"))
    monkeypatch.setattr(Upload, "send", fail)
    assert cli.main([*flags, "--push_to_hub=true"]) == 3
    said_of("the copy on the hub", capsys.readouterr().err)
    assert there("metrics.json", "report.html", "README.md", *MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("event", ["on_log", pytest.param("on_train_end", marks=pytest.mark.slow)])
def test_a_tracker_that_fails_gets_no_more_events(event, flags, monkeypatch, capsys):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from transformers.integrations import TensorBoardCallback

    calls = []
    monkeypatch.setattr(TensorBoardCallback, event, lambda *given, **named: calls.append(event) or fail())
    assert cli.main([*flags, "--report_to=tensorboard"]) == 3
    assert len(calls) == 1  # told no more
    part = "the rest of {}'s figures" if event == "on_log" else "{}'s last figures"
    said_of(part.format("TensorBoardCallback"), capsys.readouterr().err)
    assert there("metrics.json", "report.html", *MODEL)
    assert ("not_made" in run_report.read_metrics("run")) is (event != "on_train_end")  # it closes after metrics.json


@pytest.mark.slow
def test_a_run_finishes_if_the_last_screen_fails(flags, monkeypatch, capsys):
    monkeypatch.setattr(last_screen, "summary", fail)
    assert cli.main(flags) == 3
    assert "Its figures are in run/metrics.json." in said_of("the last screen", capsys.readouterr().err)
    assert there("metrics.json", "report.html", *MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["measure", pytest.param("metrics", marks=pytest.mark.slow)])
def test_a_model_that_cannot_be_measured_is_saved(what, flags, monkeypatch, capsys):
    measure, measured = State.of, []

    def only_once(*given, **more):
        measured.append(given)
        return measure(*given, **more) if len(measured) == 1 else fail()

    with monkeypatch.context() as patch:
        if what == "measure":
            patch.setattr(State, "of", only_once)
        else:
            patch.setattr(run_folder, "write_metrics", fail)
        assert cli.main(flags) == 3
    said = capsys.readouterr().err
    assert "The model is trained and saved in run, but the rest of the run failed: RuntimeError: the dog ate it" in said
    assert "`mlm-recipes evaluate run` measures it" in said
    assert there(*MODEL)
    assert not there("metrics.json")
    assert cli.main(["evaluate", "run"]) == 0


def test_an_interrupt_while_measuring_keeps_the_model_and_the_run_can_resume(flags, values, monkeypatch, capsys):
    measure, measured = State.of, []

    def interrupted(*given, **more):
        measured.append(given)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(*given, **more)

    monkeypatch.setattr(State, "of", interrupted)
    assert cli.main([*flags, "--save_strategy=steps", "--save_steps=2"]) == 130
    said = capsys.readouterr().err
    assert "The model is trained and saved in run; the rest of the run was interrupted." in said
    assert there(*MODEL)
    assert not there("metrics.json")
    weights = Path("run/model.safetensors").read_bytes()
    result = train("run", resume_from_checkpoint=True)
    assert result.metrics["train"]["steps"] == 2
    assert there("metrics.json", "report.html")
    assert Path("run/model.safetensors").read_bytes() == weights


def test_a_model_that_cannot_be_moved_stays_in_the_staging_folder(flags, monkeypatch, capsys):
    replace = os.replace

    def refuse(source, place):
        if str(place).endswith("model.safetensors"):
            raise PermissionError(13, "it is open elsewhere")
        return replace(source, place)

    monkeypatch.setattr(os, "replace", refuse)
    assert cli.main(flags) == 2
    assert "It is complete in 'run/.staged/model'" in capsys.readouterr().err
    assert there(".staged/model/model.safetensors")


@pytest.mark.slow
def test_earlier_results_are_removed_when_a_new_model_replaces_the_old(values, monkeypatch):
    train("adapt", **values)
    assert there("metrics.json", "report.html")
    measure, measured = State.of, []

    def only_once(*given, **more):
        measured.append(given)
        return measure(*given, **more) if len(measured) == 1 else fail()

    monkeypatch.setattr(State, "of", only_once)
    with pytest.raises(NotMadeError, match="saved in run"):
        train("adapt", overwrite=True, **values)
    assert not there("metrics.json")
    assert there(*MODEL)


@pytest.mark.slow
def test_the_loop_by_hand_is_as_careful(checkpoint, short_text, monkeypatch, caplog):
    monkeypatch.setitem(run_report.FILES, "report.html", fail)
    monkeypatch.setattr(run_folder, "versions", fail)
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 32, "num_train_epochs": 1}
    result = reference("tutorial", output_dir="run", **values)
    assert result.not_made == ("the versions", "report.html")
    assert "report.html: not made" in caplog.text
    assert there("metrics.json", "README.md", *MODEL)
    assert not Path("run/.staged").exists()


def test_if_one_process_fails_the_others_report_nothing(tmp_path, caplog):
    quiet = tolerated_failures.NotMade(tmp_path, main=False)
    with quiet.noting("report.html"):
        fail()
    assert caplog.text == ""
    with pytest.raises(NotMadeError, match="the dog ate it"), quiet.trained():
        fail()
    assert caplog.text == ""  # the command line prints an error of this process, with its rank
    with pytest.raises(KeyboardInterrupt), quiet.noting("report.html"):
        raise KeyboardInterrupt
    assert all_or_none(lambda: quiet.entries) == [{"what": "report.html", "why": "RuntimeError: the dog ate it"}]


#: Python in which this library is not installed, nor a package that a run names: an editable installation is found by
#: a hook of setuptools.
NOT_INSTALLED = """
import importlib.metadata, runpy, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
found = importlib.metadata.version
def version(name):
    if name in ("mlm-recipes", "evaluate"):
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
runpy.run_module("mlm_recipes", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.slow
def test_an_uninstalled_checkout_finishes_training_without_a_screen(flags):
    """In a separate process whose standard output is full, like a full disk behind `>`."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", NOT_INSTALLED, *flags], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "nothing more can be printed ([Errno 28] No space left on device). The command continues."
    assert done.stderr.splitlines() == [f"mlm-recipes: error: {said}"]
    assert there("metrics.json", "report.html", "README.md", *MODEL)
    versions = run_report.read_metrics("run")["versions"]
    assert versions["mlm-recipes"] == __version__
    assert versions["evaluate"] == "not known: not installed as a package"
    assert "evaluate&nbsp;not known: not installed as a package" in Path("run/report.html").read_text("utf-8")
