"""The last net: an error that nobody expected leaves its traceback in a file, and one sentence on the screen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from socket import gethostname

import pytest
from launched import run_together

from mlm_recipes import cli
from mlm_recipes.cli.failures import DEBUG
from mlm_recipes.report.unexpected_error import happening_in, keep, sentence
from mlm_recipes.training.trainer import MLMTrainer

QUICK = ["--max_steps", "1", "--max_length", "16", "--general_corpus", "none", "--max_eval_samples", "4"]


def raised(message="lorem"):
    try:
        raise AttributeError(message)
    except AttributeError as error:
        return error


def fail(*given, **named):
    raise AttributeError("'NoneType' object has no attribute 'lorem'")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_ERROR_FILE", DEBUG):
        monkeypatch.delenv(name, raising=False)


def only_file(folder):
    (path,) = Path(folder).glob("error-*.txt")
    return path


@pytest.mark.slow
def test_an_error_in_a_run_is_kept_in_its_folder(monkeypatch, capsys, short_text):
    monkeypatch.setattr(MLMTrainer, "train", fail)
    assert cli.main(["train", "--corpus", str(short_text), "--hub_token", "hf_secret", *QUICK]) == 1
    said = capsys.readouterr().err
    kept = only_file("runs/notes")
    assert said.startswith("mlm-recipes: error: AttributeError: 'NoneType' object has no attribute 'lorem'. This is pr")
    assert str(kept) in said
    assert len(said.splitlines()) == 1
    text = kept.read_text()
    assert "Traceback (most recent call last):" in text
    assert text.rstrip().endswith("AttributeError: 'NoneType' object has no attribute 'lorem'")
    assert "command: mlm-recipes train --corpus" in text
    assert "hf_secret" not in text
    assert not list(Path().glob("error-*"))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("mlm_recipes.recipes.train.prepare", ["train"]),
        ("mlm_recipes.recipes.evaluate.prepare", ["evaluate"]),
        ("mlm_recipes.recipes.evaluate.load_or_train_tokenizer", ["fill", "mini", "The [MASK]."]),
        ("mlm_recipes.report.run_report.write", ["report", "runs/notes"]),
        ("mlm_recipes.report.side_by_side.compare_runs", ["compare", "runs/notes", "runs/more"]),
        ("mlm_recipes.recipes.inspection.inspect_corpus", ["inspect", "notes.txt"]),
        ("mlm_recipes.data.corpus_name.known_corpora", ["corpora"]),
    ],
)
def test_every_verb_has_the_net_and_the_flag(target, arguments, monkeypatch, capsys):
    monkeypatch.setattr(target, fail)
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(only_file(Path.cwd())) in said
    with pytest.raises(AttributeError, match=r"lorem"):
        cli.main([*arguments, "--traceback"])
    with pytest.raises(AttributeError, match=r"lorem"):
        cli.main([arguments[0], "--traceback", *arguments[1:]])
    assert DEBUG not in os.environ
    only_file(Path.cwd())


def test_the_flag_shows_expected_errors_too():
    with pytest.raises(FileNotFoundError):
        cli.main(["train", "--traceback", "--corpus", "missing.txt"])


def test_nothing_is_overwritten(tmp_path):
    with pytest.raises(AttributeError) as caught, happening_in(tmp_path):
        raise AttributeError("lorem")
    paths = {keep(caught.value, ["train"]) for _ in range(5)}
    assert len(paths) == len(list(tmp_path.glob("error-*.txt"))) == 5


def test_a_folder_that_is_gone_or_closed_is_replaced(tmp_path, monkeypatch):
    with pytest.raises(AttributeError) as caught, happening_in(tmp_path / "gone"):
        raise AttributeError("lorem")
    assert keep(caught.value, []).parent == Path.cwd()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    usual = Path.open

    def closed(path, *given, **named):
        if path.parent == Path.cwd():
            raise PermissionError(13, "Permission denied")
        return usual(path, *given, **named)

    monkeypatch.setattr(Path, "open", closed)
    assert keep(raised(), []).parent == tmp_path / "temporary"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    assert keep(raised(), []) is None
    assert "could not be written to a file; --traceback shows it" in sentence(raised(), None)


def test_another_processs_failure_is_not_called_ours():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    said = sentence(lost, Path("e.txt"))
    assert "Another process of this run has probably failed before" in said
    assert "fault of mlm-recipes" not in said


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ModuleNotFoundError("No module named 'loremba'", name="loremba"), 2, "needs a package .*: loremba. "),
        (ImportError("cannot import name 'lorem' from 'mlm_recipes.cli'"), 1, "probably a fault of mlm-recipes"),
        (AssertionError("rows"), 1, "^mlm-recipes: error: AssertionError: rows. This is probably a fault"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1, "probably a fault"),
        (PermissionError(13, "Permission denied", "notes.txt"), 2, "error: notes.txt: Permission denied. Accepted: "),
        (MemoryError("it has 3 bytes"), 2, "^mlm-recipes: error: it has 3 bytes"),
        (KeyboardInterrupt(), 130, "^mlm-recipes: interrupted$"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_code_says_whose_error_it_is(error, code, says, monkeypatch, capsys):
    import re

    monkeypatch.setattr("mlm_recipes.data.corpus_name.known_corpora", lambda: (_ for _ in ()).throw(error))
    assert cli.main(["corpora"]) == code
    assert re.search(says, capsys.readouterr().err.strip())
    assert len(list(Path().glob("error-*"))) == (code == 1)


def test_a_lack_of_memory_is_the_users_to_mend(monkeypatch, capsys):
    import torch

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    monkeypatch.setattr("mlm_recipes.data.corpus_name.known_corpora", lambda: (_ for _ in ()).throw(error))
    assert cli.main(["corpora"]) == 2
    assert "Accepted: a run that fits into this machine's memory. Lower --per_device_train" in capsys.readouterr().err


def test_torchrun_learns_of_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "agent" / "error.json"))
    (tmp_path / "agent").mkdir()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr("mlm_recipes.data.corpus_name.known_corpora", fail)
    assert cli.main(["corpora"]) == 1
    recorded = json.loads((tmp_path / "agent" / "error.json").read_text())
    assert "object has no attribute 'lorem'" in recorded["message"]["message"]
    assert only_file(Path.cwd()).stem.endswith("-rank3")
    assert capsys.readouterr().err.startswith(f"mlm-recipes: error: process 3 on {gethostname()}: AttributeError")


SCRIPT = """
import sys
from mlm_recipes import cli
from mlm_recipes.training.trainer import MLMTrainer
def fail(*given, **named):
    raise AttributeError("lorem ipsum")
MLMTrainer.train = fail
sys.exit(cli.main())
"""


@pytest.mark.slow
def test_two_processes_write_two_files_and_torchrun_reports_the_first(short_text):
    Path("fails.py").write_text(SCRIPT)
    done = run_together(2, "fails.py", "train", "--corpus", short_text, *QUICK, code=1)
    ranks = {path.stem.rpartition("-")[2] for path in Path("runs/notes").glob("error-*.txt")}
    assert ranks
    assert ranks <= {"rank0", "rank1"}  # the agent ends the second when the first has failed
    assert "AttributeError: lorem ipsum" in done.stderr
    assert 'raise AttributeError("lorem ipsum")' in done.stderr  # in torchrun's report
