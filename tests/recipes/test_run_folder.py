from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from example_metrics import metrics

from mlm_recipes.recipes.run_folder import (
    LOCK,
    WRITTEN,
    claim,
    held,
    refuse_to_overwrite,
    versions,
    write_metrics,
    write_recipe,
)
from mlm_recipes.recipes.upload import run_files


def test_the_first_free_folder_is_claimed():
    assert [claim(None, "notes") for _ in range(3)] == [Path("runs/notes"), Path("runs/notes-2"), Path("runs/notes-3")]
    assert all(Path(f"runs/{name}").is_dir() for name in ("notes", "notes-2", "notes-3"))
    assert claim("deep/er", "notes") == Path("deep/er")
    assert claim("deep/er", "notes").is_dir()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("owner/name", "owner-name"),
        ("../../etc", "etc"),
        ("..", "run"),
        ("a b:c", "a-b-c"),
        ("/", "run"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_a_name_cannot_escape_the_runs_folder(name, folder):
    assert claim(None, name) == Path("runs") / folder


def test_a_folder_with_a_run_is_refused_and_an_empty_one_accepted(tmp_path):
    refuse_to_overwrite(None)
    refuse_to_overwrite("new")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("")
    refuse_to_overwrite("old")
    for name in WRITTEN:
        (tmp_path / "old" / name.replace("*", "5")).write_text("")
        with pytest.raises(
            FileExistsError, match=r"already holds (a finished run|files that a run would overwrite) \("
        ):
            refuse_to_overwrite("old")
        refuse_to_overwrite("old", overwrite=True)
        (tmp_path / "old" / name.replace("*", "5")).unlink()
    with pytest.raises(FileExistsError, match="is a file"):
        refuse_to_overwrite("old/notes.txt")


def test_the_files_are_plain_data(tmp_path):
    write_recipe(tmp_path, {"corpus": "meditations", "learning_rate": 1e-5, "note": "caf\u00e9"})
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text("utf-8"))["note"] == "caf\u00e9"
    write_metrics(tmp_path, metrics())
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8")) == metrics()
    with pytest.raises(ValueError, match="JSON"):
        write_metrics(tmp_path, {"loss": float("nan")})


def test_versions_list_the_packages_that_affect_the_numbers():
    assert {"python", "torch", "transformers", "mlm-recipes"} <= set(versions())


def test_a_folder_is_locked_by_one_run(tmp_path):
    with held(tmp_path), pytest.raises(OSError, match="another run is using"), held(tmp_path):
        pass
    with held(tmp_path):
        assert (tmp_path / LOCK).is_file()
        refuse_to_overwrite(tmp_path)  # it does not count as a run's file
        assert run_files(tmp_path) == []  # and is not uploaded to the hub
    assert not list(tmp_path.iterdir())


HOLDER = """
import os, sys, time
from pathlib import Path
from mlm_recipes.recipes.run_folder import held
with held(Path(sys.argv[1])):
    if os.fork() == 0:  # as a data loader's worker is
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_killed_process_releases_the_lock_and_a_forked_one_does_not_keep_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(OSError, match="another run is using"), held(tmp_path):
                pass
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # the folder exists
            with held(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_logged_and_leaves_no_mark(tmp_path, monkeypatch, caplog):
    def refuse(*given):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with held(tmp_path), held(tmp_path):
        pass
    assert caplog.text.count("Make sure that no other run uses it") == 2
    assert [path.name for path in tmp_path.iterdir()] in ([], [LOCK])  # empty, so it can be claimed
    monkeypatch.undo()
    with held(tmp_path):
        pass
