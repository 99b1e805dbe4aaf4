"""How `train` resumes a run: which folder it uses, and that nothing in it is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import metrics_schema
import pytest
import yaml

from mlm_recipes import MLMTrainer, cli, evaluate, reference, train
from mlm_recipes.checkpoints.storage import list_checkpoints
from mlm_recipes.recipes.plan import plan_run

SHORT = {"per_device_train_batch_size": 8, "save_strategy": "steps", "save_steps": 2, "max_length": 32,
         "save_total_limit": 9, "max_steps": 4, "general_corpus": "none"}  # fmt: skip


@pytest.fixture
def values(checkpoint, short_text):
    return {"model": str(checkpoint), "corpus": str(short_text)} | SHORT


def interrupt(whole, folder):
    """Reduce a finished run to the files of one that was killed after its second step."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    shutil.rmtree(Path(folder) / "checkpoint-4")
    for name in ("model.safetensors", "config.json", "metrics.json", "report.html", "README.md"):
        (Path(folder) / name).unlink()


def files(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_an_interrupted_recipe_resumes_in_its_own_folder(values):
    """It is found by run folder, by the run's recipe, or by corpus and model, and ends with the same files."""
    whole = train("adapt", output_dir="whole", **values)
    weights = (whole.output_dir / "model.safetensors").read_bytes()
    assert whole.metrics["train"]["resumed"] == []
    for ask in (
        lambda: train("adapt", resume_from_checkpoint="true", **values),
        lambda: train("adapt", resume_from_checkpoint="runs/notes", **values),
        lambda: train("runs/notes", resume_from_checkpoint=True),
        lambda: train("runs/notes/recipe.yaml", resume_from_checkpoint="true"),
        lambda: train("runs/notes", resume_from_checkpoint="runs/notes/checkpoint-2"),
        lambda: train(resume_from_checkpoint="runs/notes/checkpoint-2"),  # with the run's values, not the quickstart's
        lambda: train(resume_from_checkpoint="true", corpus=values["corpus"], model=values["model"]),
    ):
        interrupt("whole", "runs/notes")
        again = ask()
        assert again.output_dir == Path("runs/notes")
        assert (again.output_dir / "model.safetensors").read_bytes() == weights
        for name in ("before", "after"):
            assert again.metrics[name] == whole.metrics[name]
        assert again.metrics["train"]["history"] == whole.metrics["train"]["history"]
        assert again.metrics["train"]["resumed"] == [{"step": 2, "changed": {}}]
        assert "4 steps, resumed after step 2; the 2 since then in" in " ".join(str(again).split())


@pytest.mark.slow
def test_a_runs_recipe_file_selects_that_run_and_not_the_newest(values):
    train("adapt", output_dir="runs/mine", **values)
    interrupt("runs/mine", "runs/other")
    interrupt("runs/mine", "runs/mine-2")
    (Path("runs/other") / "checkpoint-2").touch()
    before = files("runs/other")
    assert train("runs/mine-2/recipe.yaml", resume_from_checkpoint=True).output_dir == Path("runs/mine-2")
    assert files("runs/other") == before


@pytest.mark.slow
def test_resuming_with_a_change_removes_the_later_checkpoints(values):
    train("adapt", output_dir="runs/notes", **values)
    interrupt("runs/notes", "runs/mine")
    shutil.copytree("runs/notes/checkpoint-4", "runs/mine/checkpoint-4")
    changed = {"learning_rate": 1e-4, "change_on_resume": ["learning_rate"]}
    earlier = {"resume_from_checkpoint": "runs/mine/checkpoint-2"}
    before = files("runs/mine")
    with pytest.raises(FileExistsError, match="'runs/mine/checkpoint-4' is newer and was saved without the change"):
        train("runs/mine", **earlier, **changed)
    assert files("runs/mine") == before
    result = train("runs/mine", overwrite=True, save_steps=3, **earlier, **changed)
    kept = [path.name for path in list_checkpoints(Path("runs/mine"))]
    assert kept == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    assert "Changed after step 2: learning_rate from 1e-05 to 0.0001; recipe.yaml has the latest values" in (
        " ".join(str(result).split())
    )
    assert yaml.safe_load(Path("runs/mine/recipe.yaml").read_text())["learning_rate"] == 1e-4
    (state,) = [
        json.loads((path / "trainer_state.json").read_text()) for path in Path("runs/mine").glob("checkpoint-4")
    ]
    assert state["stateful_callbacks"]["ResumeContract"]["attributes"]["contract"]["values"]["learning_rate"] == 1e-4


@pytest.mark.slow
def test_a_changed_run_killed_before_its_first_checkpoint_keeps_the_old_recipe(values, monkeypatch):
    train("adapt", output_dir="runs/notes", **values)
    interrupt("runs/notes", "runs/mine")
    before = files("runs/mine")
    changed = {"learning_rate": 1e-4, "change_on_resume": ["learning_rate"]}
    with monkeypatch.context() as patch:
        patch.setattr(MLMTrainer, "_save_checkpoint", lambda *args: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            train("runs/mine", resume_from_checkpoint=True, **changed)
    assert files("runs/mine") == before
    assert train("runs/mine", resume_from_checkpoint=True).metrics["train"]["resumed"] == [{"step": 2, "changed": {}}]


@pytest.mark.slow
def test_a_finished_run_is_unchanged_unless_overwrite_is_set(values):
    train("adapt", output_dir="runs/notes", **values)
    before = files("runs/notes")
    for ask in (
        {"resume_from_checkpoint": "runs/notes"},
        {"resume_from_checkpoint": "true", "output_dir": "runs/notes"},
    ):
        with pytest.raises(FileExistsError, match=r"'runs/notes' already holds a finished run.*--overwrite"):
            train("adapt", **values, **ask)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in 'runs'"):  # no interrupted run
        train("adapt", resume_from_checkpoint="true", **values)
    assert files("runs/notes") == before
    longer = train(
        "runs/notes", resume_from_checkpoint=True, max_steps=6, change_on_resume=["max_steps"], overwrite=True
    )
    assert longer.metrics["train"]["steps"] == 6
    metrics_schema.check(longer.metrics)


@pytest.mark.slow
def test_a_run_that_replaces_a_run_removes_its_checkpoints(values):
    train("adapt", output_dir="here", **values)
    train("adapt", output_dir="here", overwrite=True, **(values | {"max_steps": 2}))
    assert [path.name for path in list_checkpoints(Path("here"))] == ["checkpoint-2"]


@pytest.mark.slow
def test_a_checkpoint_in_a_different_folder_is_resumed_in_a_new_folder(values, checkpoint):
    train("adapt", output_dir="run", **values)
    shutil.copytree("run/checkpoint-2", "mine/checkpoint-2")
    Path("mine/README.md").write_text("precious")
    result = train("adapt", resume_from_checkpoint="mine/checkpoint-2", **values)
    assert result.output_dir == Path("runs/notes")
    assert result.metrics["train"]["resumed"] == [{"step": 2, "changed": {}}]
    assert {path.name for path in Path("mine").iterdir()} == {"checkpoint-2", "README.md"}
    with pytest.raises(FileExistsError, match=r"holds an interrupted run, whose newest checkpoint is checkpoint-2"):
        train("adapt", output_dir="mine", resume_from_checkpoint="mine/checkpoint-2", **values)
    assert Path("mine/README.md").read_text() == "precious"
    train("adapt", output_dir="mine", resume_from_checkpoint="mine/checkpoint-2", overwrite=True, **values)
    assert [path.name for path in list_checkpoints(Path("mine"))] == ["checkpoint-2", "checkpoint-4"]
    with pytest.raises(FileExistsError, match="already holds a finished run"):
        train("adapt", output_dir="run", resume_from_checkpoint="mine/checkpoint-2", **values)


def test_a_refused_resume_writes_nothing(values):
    train("adapt", output_dir="run", **values)
    interrupt("run", "killed")
    before = files("killed")
    for changes, says in (
        ({"seed": 7}, "seed was 42 and is now 7.*--model killed/checkpoint-2$"),
        ({"seed": 7, "from_scratch": True}, "--model killed/checkpoint-2 --from_scratch false"),
        ({"learning_rate": 1e-4}, "learning_rate was"),
    ):
        with pytest.raises(ValueError, match=says.replace("$", r"\.$")):
            train("killed", resume_from_checkpoint=True, **changes)
        with pytest.raises(ValueError, match=says.split(".*")[0]):
            train("killed", resume_from_checkpoint="killed", output_dir="new", **changes)
        assert not Path("new").exists()
    assert files("killed") == before


def test_an_override_is_checked_with_the_values_of_the_run_that_is_resumed(values):
    """Patience needs evaluations, which that run has and the default recipe has not."""
    train("adapt", output_dir="run", eval_strategy="steps", eval_steps=2, early_stopping_patience=3, **values)
    interrupt("run", "runs/notes")
    change = {"early_stopping_patience": 5, "change_on_resume": ["early_stopping_patience"]}
    named = {name: values[name] for name in ("corpus", "model")}
    for ask in (
        {"resume_from_checkpoint": "runs/notes"},
        {"resume_from_checkpoint": "runs/notes/checkpoint-2"},
        {"resume_from_checkpoint": "true", "output_dir": "runs/notes"},
        {"resume_from_checkpoint": "true", **named},
    ):
        plan = plan_run(None, change | ask)
        assert (plan.folder, plan.checkpoint) == (Path("runs/notes"), Path("runs/notes/checkpoint-2"))
        assert (plan.config.early_stopping_patience, plan.config.eval_steps) == (5, 2)
    with pytest.raises(ValueError, match="early_stopping_patience: received 5 with eval_strategy 'no'"):
        plan_run(None, change | {"resume_from_checkpoint": "true"})  # no run of the default corpus


@pytest.mark.parametrize("recipe", [reference, evaluate])
@pytest.mark.parametrize("given", [{"resume_from_checkpoint": "true"}, {"change_on_resume": ["max_steps"]}])
def test_an_error_reports_that_there_is_nothing_to_resume(recipe, given, values):
    name = next(iter(given))
    with pytest.raises(ValueError, match=f"{name}: received .*Accepted here: nothing"):
        recipe("tutorial", **given)
    with pytest.raises(ValueError, match="change_on_resume: received max_steps and nothing to resume"):
        train("adapt", change_on_resume=["max_steps"], **values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by_torchrun", "named"),
    [
        (True, True),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((True, False), (False, True), (False, False))),
    ],
)
def test_a_started_run_resumes_automatically(values, monkeypatch, by_torchrun, named):
    """With `auto`, or restarted by torchrun: a run killed at any time ends like an uninterrupted one."""
    if named:
        values |= {"output_dir": "mine"}
    folder = Path("mine" if named else "runs/notes")
    ask = {} if by_torchrun else {"resume_from_checkpoint": "auto"}
    if by_torchrun:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    whole = train("adapt", **values, **ask)  # killed before it had a folder, so it starts
    assert whole.output_dir == folder
    weights = (folder / "model.safetensors").read_bytes()
    shutil.copytree(folder, "whole")
    for kept, resumed in (("checkpoint-2", [{"step": 2, "changed": {}}]), (None, [])):
        interrupt("whole", folder)
        (folder / ".staged/checkpoint-4").mkdir(parents=True)  # where it was killed
        if kept is None:
            shutil.rmtree(folder / "checkpoint-2")
        again = train("adapt", **values, **ask)
        assert again.output_dir == folder
        assert not (folder / ".staged").exists()
        assert again.metrics["train"]["resumed"] == resumed
        assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("named", [True, False])
def test_with_auto_a_finished_run_is_left_alone_and_its_result_returned(values, named, monkeypatch, capsys):
    """A job that is queued again until it ends with 0 must end."""
    ask = values | {"resume_from_checkpoint": "auto", "max_steps": 1, "save_strategy": "no"}
    if named:
        ask |= {"output_dir": "mine"}
    folder = Path("mine" if named else "runs/notes")
    first = train("adapt", **ask)
    before = files(folder)
    monkeypatch.setattr("mlm_recipes.recipes.train.prepare", lambda config: pytest.fail("something was loaded"))
    again = train("adapt", **ask)
    assert again.output_dir == folder == first.output_dir
    assert again.metrics == json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(first.metrics))
    flags = [f"--{name}={value}" for name, value in ask.items()]
    assert cli.main(["train", "adapt", *flags]) == 0
    said = capsys.readouterr()
    assert f"{folder} holds this run, finished: nothing is left to train." in said.out
    assert "held-out text" in said.out  # the run's own summary
    assert files(folder) == before
    with pytest.raises(pytest.fail.Exception, match="something was loaded"):
        train("adapt", **ask, overwrite=True)
    if named:  # a folder of another run is refused, as ever
        assert cli.main(["train", "adapt", *flags, "--seed=7"]) == 2
        assert "'mine' already holds a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_with_different_values_is_a_new_run(values):
    train("adapt", output_dir="whole", **values)
    interrupt("whole", "runs/notes")
    before = files("runs/notes")
    assert train("adapt", resume_from_checkpoint="auto", **values, seed=7).output_dir == Path("runs/notes-2")
    with pytest.raises(FileExistsError, match="holds an interrupted run, whose newest checkpoint is checkpoint-2"):
        train("adapt", resume_from_checkpoint="auto", output_dir="runs/notes", **values, seed=7)
    assert files("runs/notes") == before


@pytest.mark.parametrize("model", ["base", "base/checkpoint-2", "./base"])
def test_a_run_does_not_replace_the_model_that_it_starts_from(checkpoint, short_text, model):
    shutil.copytree(checkpoint, "base/checkpoint-2")
    shutil.copytree(checkpoint, "base", dirs_exist_ok=True)
    before = files("base")
    with pytest.raises(ValueError, match=r"output_dir: received 'base', where the model '.*base.*' is, which the run"):
        train("adapt", model=model, corpus=str(short_text), output_dir="base", overwrite=True, **SHORT)
    assert files("base") == before
    assert plan_run("adapt", {"model": model, "output_dir": "other"}).folder == Path("other")
    Path("mini").mkdir()
    assert plan_run("quickstart", {"model": "mini", "output_dir": "mini"}).folder == Path("mini")  # the built-in one
