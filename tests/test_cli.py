"""The command line, in separate processes."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command, launch_command_parser
from conftest import ROOT
from launched import run_together
from same_run import loss_bound
from transformers import AutoModelForMaskedLM

from mlm_recipes import cli, evaluate, train
from mlm_recipes.cli import entry_point

MLM_RECIPES = str(Path(sys.executable).with_name("mlm-recipes"))
installed = pytest.mark.skipif(not Path(MLM_RECIPES).exists(), reason="the command mlm-recipes is not installed")
QUICK = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--max_length", "32", "--vocab_size", "500"]
QUICK += ["--general_corpus", "none"]


def run(*command, **environment):
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_answers_at_once():
    """It imports nothing slow; torch alone takes seconds."""
    code = "import sys; from mlm_recipes import cli; cli.main([]); print(*sys.modules)"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0
    for verb in ("train", "reference", "evaluate", "fill", "report", "corpora", "models"):
        assert verb in done.stdout
    imported = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "mlm_recipes" in imported
    assert not imported & {"torch", "transformers", "datasets", "accelerate", "numpy", "pandas", "pyarrow"}


@installed
def test_the_command_the_module_and_no_argument_say_the_same():
    first = run(MLM_RECIPES, "--help").stdout
    assert first == run(sys.executable, "-m", "mlm_recipes", "--help").stdout == run(MLM_RECIPES).stdout


@pytest.mark.slow
@installed
def test_train_then_evaluate_fill_and_report(short_text, capsys):
    done = run(MLM_RECIPES, "train", "--corpus", short_text, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("notes: 60 paragraphs, 1,200 words; 54 to train on, 6 held out.")
    assert "15% when it is measured" in lines[0]
    assert lines[1] == "Measuring the model before training."
    assert lines[2].startswith("epoch 1/1  step 1/2  loss ")
    assert lines[4] == "Measuring the model after training."
    assert "held-out text" in done.stdout
    assert "Everything is in runs/notes" in done.stdout
    after = json.loads(Path("runs/notes/metrics.json").read_text())["after"]

    assert cli.main(["evaluate", "runs/notes"]) == 0
    assert f"{after['loss']:.3f}" in capsys.readouterr().out

    assert cli.main(["fill", "runs/notes", "The [MASK] of [MASK].", "--top_k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The [MASK] of [MASK]."
    assert (lines[1].strip(), lines[4].strip(), len(lines)) == ("mask 1", "mask 2", 7)
    assert "%" in lines[2]

    Path("runs/notes/report.html").unlink()
    assert cli.main(["report", "runs/notes"]) == 0
    assert Path("runs/notes/report.html").exists()


def test_corpora_and_models_are_listed(capsys):
    assert cli.main(["corpora"]) == 0
    assert "meditations-long" in capsys.readouterr().out
    assert cli.main(["models"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[:2]] == ["mini", "mini-random"]
    assert "4 layers x 256, modernbert, trained weights" in listed[0]
    assert "random weights; its tokenizer is trained on the corpus" in listed[1]


@pytest.mark.parametrize("verb", ["train", "reference", "evaluate"])
def test_each_verb_lists_its_values(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("--corpus", "--mlm_probability", "--learning_rate", "--output_dir"):
        assert name in listed


@pytest.fixture
def bad_files(tmp_path, tokenizer):
    import copy

    maskless = copy.deepcopy(tokenizer)
    maskless.mask_token = None
    for name, saved in (("maskless", maskless), ("weightless", tokenizer)):
        saved.save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "one.txt").write_text("only one\n")
    (tmp_path / "latin1.txt").write_bytes("fine\ncaf\u00e9\n".encode("latin-1"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "metrics.json").write_text("{}")


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--corpus", "missing.txt"], "corpus: there is no file or folder 'missing.txt'"),
        (["train", "--corpus", "empty.txt"], "'empty.txt' contains no text"),
        (["train", "--corpus", "blank.txt"], "'blank.txt' contains no text (2 blank lines)"),
        (["train", "--corpus", "one.txt"], "too few to hold one out"),
        (["train", "--corpus", "latin1.txt"], "latin1.txt, line 2: not UTF-8"),
        (["train", "--corpus", "meditation"], "Did you mean 'meditations'?"),
        (["train", "--model", "minni"], "Did you mean 'mini'?"),
        (["train", "--model", "google-bert/bert-base-uncased"], "the hub cannot be reached"),
        (["train", "--corpus", "someone/texts"], "the hub cannot be reached"),
        (["train", "--mlm_probability", "0"], "mlm_probability: received 0"),
        (["train", "--mlm_probability", "1.01"], "mlm_probability: received 1.01"),
        (["train", "--model", "maskless"], "has no mask token"),
        (["train", "--model", "weightless"], "'weightless' has a config but no usable weights"),
        (["train", "--max_length", "2000"], "max_length: received 2000. Accepted: 3 to 1024"),
        (["train", "--learning_rat", "1"], "learning_rat: no such value. Did you mean 'learning_rate'?"),
        (["train", "quickstar"], "there is no recipe 'quickstar'"),
        (["train", "--output_dir", "taken"], "'taken' already holds a finished run"),
        (["fill", "nowhere/there/is", "The [MASK]."], "there is no folder 'nowhere/there/is'"),
        (["fill", "mini-random", "The [MASK]."], "'mini-random' has no tokenizer"),
        (["report", "nowhere"], "'nowhere' has no metrics.json"),
        (["evaluate", "nowhere"], "there is no recipe 'nowhere'"),
        (["train", "meditations"], "a corpus is named with --corpus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_error(arguments, says, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("mlm-recipes: error: ")
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err
    assert "Traceback" not in captured.err + captured.out
    assert sorted(tmp_path.rglob("*")) == before  # nothing written


def test_a_traceback_is_kept_on_request(monkeypatch):
    monkeypatch.setenv("MLM_RECIPES_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["train", "--corpus", "missing.txt"])


@pytest.mark.slow
@installed
def test_an_unreachable_hub_is_one_clear_error(tmp_path):
    """Without the offline switch, in a real process; tests/sources counts the requests."""
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    done = run(MLM_RECIPES, "train", "--corpus", "someone/texts", **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mlm-recipes: error: corpus: ")
    assert done.stderr.count("\n") == 1
    assert "the hub cannot be reached" in done.stderr


# Launchers: real processes


def assert_two_trained_together(folder: Path, done) -> None:
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train"]["processes"] == 2
    assert done.stdout.count("held-out text") == 1  # one process speaks
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # and one folder is written


def assert_evaluated_once(folder: str) -> None:
    """Evaluation in two processes counts the same text once, with the same result as one process."""
    metrics = json.loads(Path(folder, "metrics.json").read_text())
    alone = evaluate(folder).metrics["evaluation"]
    bound = loss_bound(AutoModelForMaskedLM.from_pretrained(folder))
    for name in ("loss", "accuracy", "top5_accuracy", "masked_tokens"):
        assert alone[name] == pytest.approx(metrics["after"][name], rel=bound)


@pytest.mark.slow
def test_two_processes_agree_on_the_steps_that_fit_into_a_time(short_text):
    """Each in its own folder, as on two machines that share only the run folder."""
    done = run_together(
        2, "-m", "mlm_recipes", "train", "quickstart", "--corpus", short_text, "--train_minutes", "0.01",
        "--max_steps", "5", "--max_length", "32", "--general_corpus", "none", "--max_eval_samples", "6",
    )  # fmt: skip
    assert_two_trained_together(Path("runs/notes"), done)
    assert done.stdout.count("on this machine") == 1
    steps = json.loads(Path("runs/notes/metrics.json").read_text())["train"]["steps"]
    recipe = Path("runs/notes/recipe.yaml").read_text()
    assert f"\nmax_steps: {steps}\n" in recipe
    assert "train_minutes: null" in recipe


@pytest.mark.slow  # accelerate starts the same two processes, by torchrun too; test_layouts.py starts torchrun itself
def test_torchrun_trains_two_processes_together(short_text):
    done = run_together(2, "-m", "mlm_recipes", "train", "quickstart", "--corpus", short_text, *QUICK)
    assert_two_trained_together(Path("runs/notes"), done)
    assert_evaluated_once("runs/notes")


@pytest.mark.slow
def test_accelerate_launches_two_cpu_processes_with_the_loss_of_one(short_text):
    config = ROOT / "recipes/accelerate/two_cpu_processes.yaml"
    whole = {"max_length": 32, "vocab_size": 500, "max_steps": 3, "bf16": False, "general_corpus": "none"}
    flags = [f"--{name}={value}" for name, value in whole.items()]
    done = run(
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0",
        "-m", "mlm_recipes", "train", "quickstart", "--corpus", short_text, "--per_device_train_batch_size=10", *flags,
    )  # fmt: skip
    assert_two_trained_together(Path("runs/notes"), done)
    assert_evaluated_once("runs/notes")
    # 54 paragraphs in steps of 20: the third has 14, of which one process has four.
    two = json.loads(Path("runs/notes/metrics.json").read_text())["train"]["history"]
    alone = train("quickstart", corpus=str(short_text), per_device_train_batch_size=20, **whole)
    assert [step["loss"] for step in two] == pytest.approx(
        [step["loss"] for step in alone.metrics["train"]["history"]],
        rel=loss_bound(AutoModelForMaskedLM.from_pretrained("runs/notes"), steps=3),
    )


@pytest.mark.slow  # two are above
def test_accelerate_launches_one_process(short_text):
    """The launcher is called in this process, which has imported accelerate already; it starts a real process."""
    recipe = str(ROOT / "recipes/quickstart.yaml")
    command = ["-m", "mlm_recipes", "train", recipe, "--corpus", str(short_text), *QUICK]
    launch_command(launch_command_parser().parse_args(command))  # raises where the process fails
    assert json.loads(Path("runs/notes/metrics.json").read_text())["train"]["processes"] == 1


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_launch_file_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes >= 1


def test_a_misspelt_command_is_named_with_the_nearest_one(capsys):
    assert cli.main(["trian"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: 'trian' is not a command. Did you mean 'train'? Accepted: train, ")


def test_a_value_without_its_dashes_is_not_taken_for_a_recipe_in_silence(capsys):
    assert cli.main(["train", "max_steps", "5"]) == 2
    assert "'max_steps'" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(select, "poll"), reason="not on this system")
@pytest.mark.parametrize("words", [["corpora"], ["plan", "--params", "110M", "--tokens", "2B", "--gpus", "8"]])
def test_who_has_read_enough_gets_no_error(words):
    """`| head` closes the pipe, before all is printed or, as here, before anything is."""
    unread, written = os.pipe()
    os.close(unread)
    with open(written, "wb") as nobody:
        ended = subprocess.run(
            [sys.executable, "-m", "mlm_recipes", *words], stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_another_broken_pipe_is_an_error(monkeypatch, capsys):
    def breaks(options: argparse.Namespace):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(entry_point, "_run_plain_verb", breaks)
    assert cli.main(["corpora"]) == 2
    assert "Broken pipe" in capsys.readouterr().err
