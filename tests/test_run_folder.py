from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from test_report import metrics

from mlm_recipes.run_folder import WRITTEN, claim, held, refuse_to_overwrite, versions, write_metrics, write_recipe


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
def test_a_name_cannot_leave_runs(name, folder):
    assert claim(None, name) == Path("runs") / folder


def test_what_is_there_is_refused_and_what_is_not_is_fine(tmp_path):
    refuse_to_overwrite(None)
    refuse_to_overwrite("new")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("")
    refuse_to_overwrite("old")
    for name in WRITTEN:
        (tmp_path / "old" / name.replace("*", "5")).write_text("")
        with pytest.raises(
            FileExistsError, match=r"already holds (a finished run|files that a run would write over) \("
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


def test_versions_name_what_decides_the_numbers():
    assert {"python", "torch", "transformers", "mlm-recipes"} <= set(versions())


def test_a_folder_is_one_runs_at_a_time(tmp_path):
    with held(tmp_path), pytest.raises(OSError, match="another run is at work in"), held(tmp_path):
        pass
    with held(tmp_path):
        pass
