from __future__ import annotations

import json
import os

import pytest
from conftest import reseal
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.checkpoints import storage
from mlm_recipes.checkpoints.storage import MANIFEST, commit, fault, list_checkpoints, newest_whole, remove, rotate

FILES = {"model.safetensors": b"weights" * 99, "optimizer.pt": b"moments", "empty.json": b"", "inside/part.bin": b"x"}


def write(folder, files=FILES):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of four files."""
    commit(write(tmp_path / ".staged/checkpoint-3"), tmp_path / "checkpoint-3")
    return tmp_path / "checkpoint-3"


def test_a_committed_checkpoint_is_complete(saved):
    assert fault(saved) is None
    assert {path.name for path in saved.parent.iterdir()} == {"checkpoint-3", ".staged"}
    assert json.loads((saved / MANIFEST).read_text())["files"]["optimizer.pt"]["bytes"] == 7


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_truncated_or_longer_file_is_detected(saved, name):
    path = saved / name
    content = path.read_bytes()
    for changed in (None, content[:-1], content[: len(content) // 2], content + b"\n"):
        if changed == content:
            continue
        path.unlink() if changed is None else path.write_bytes(changed)
        assert fault(saved, content=False) is not None
        assert name in str(fault(saved))
        path.write_bytes(content)
    assert fault(saved) is None


@given(st.data())
def test_any_flipped_bit_is_detected(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bits") / "checkpoint-1"
    reseal(write(folder))
    path = folder / data.draw(st.sampled_from([name for name, content in FILES.items() if content] + [MANIFEST]))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert path.name in fault(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {"a": {}}}', "\0"])
def test_an_invalid_manifest_is_reported(saved, text):
    (saved / MANIFEST).write_text(text)
    assert fault(saved) in ("its manifest.json cannot be read", "its manifest.json is damaged")


def test_a_valid_manifest_still_needs_the_files_it_lists(saved):
    (saved / MANIFEST).write_text(storage._manifest({"../../etc/passwd-": {"bytes": 1, "sha256": "0"}}))
    assert fault(saved).startswith("../../etc/passwd- cannot be read")


def test_the_newest_complete_checkpoint_is_used_and_skipped_ones_are_logged(tmp_path, caplog):
    for step in (2, 10, 11, 12):
        reseal(write(tmp_path / f"checkpoint-{step}"))
    (tmp_path / "checkpoint-12" / MANIFEST).unlink()
    flipped = tmp_path / "checkpoint-11/optimizer.pt"
    flipped.write_bytes(b"mOments")
    (tmp_path / "checkpoint-13").write_text("a file")
    assert newest_whole(tmp_path).name == "checkpoint-10"
    assert "checkpoint-12 is skipped: it has no manifest.json" in caplog.text
    assert "checkpoint-11 is skipped: optimizer.pt is damaged" in caplog.text
    assert newest_whole(tmp_path / "nowhere") is None


def test_rotation_counts_only_complete_checkpoints_and_keeps_the_best(tmp_path):
    def there():
        return [path.name for path in list_checkpoints(tmp_path)]

    for step in range(1, 7):
        reseal(write(tmp_path / f"checkpoint-{step}"))
    (tmp_path / "checkpoint-6" / MANIFEST).unlink()
    newest = tmp_path / "checkpoint-5"
    rotate(tmp_path, None, newest)
    rotate(tmp_path, 0, newest)
    assert len(there()) == 5
    rotate(tmp_path, 3, newest, best=tmp_path / "checkpoint-1")
    assert there() == ["checkpoint-1", "checkpoint-4", "checkpoint-5"]
    rotate(tmp_path, 2, tmp_path / "checkpoint-4", best=tmp_path / "checkpoint-1")  # saved after going on from 1
    assert there() == ["checkpoint-1", "checkpoint-4"]
    rotate(tmp_path, 1, tmp_path / "checkpoint-4")
    assert there() == ["checkpoint-4"]
    assert (tmp_path / "checkpoint-6").is_dir()  # not whole: neither counted nor removed


class Killed(BaseException):
    pass


@pytest.mark.parametrize("existing", [False, True])
def test_a_kill_at_any_moment_of_a_commit_leaves_a_complete_checkpoint_or_none(tmp_path, monkeypatch, existing):
    """After each call that changes the disk, in turn."""
    calls = 0
    for point in range(100):
        run = tmp_path / str(point)
        reseal(write(run / "checkpoint-1"))
        if existing:
            reseal(write(run / "checkpoint-2"))
        staged = write(run / ".staged/checkpoint-2", FILES | {"optimizer.pt": b"newer"})
        calls = 0

        def counted(original, point=point):
            def act(*args, **kwargs):
                nonlocal calls
                if calls == point:
                    raise Killed
                calls += 1
                return original(*args, **kwargs)

            return act

        with monkeypatch.context() as patch:
            for module, name in ((os, "fsync"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (os, "mkdir")):
                patch.setattr(module, name, counted(getattr(module, name)))
            patch.setattr(storage.Path, "write_text", counted(storage.Path.write_text))
            try:
                commit(staged, run / "checkpoint-2")
            except Killed:
                assert newest_whole(run) is not None
                for path in list_checkpoints(run):
                    assert fault(path) is None
                continue
        assert newest_whole(run).name == "checkpoint-2"
        assert (run / "checkpoint-2/optimizer.pt").read_bytes() == b"newer"
        break
    assert point > (12 if existing else 8)


def test_a_half_removed_checkpoint_does_not_count(tmp_path, monkeypatch):
    reseal(write(tmp_path / "checkpoint-1"))
    with monkeypatch.context() as patch:
        patch.setattr(storage.shutil, "rmtree", lambda path, ignore_errors=False: None)
        remove(tmp_path / "checkpoint-1")
    assert list_checkpoints(tmp_path) == []
    assert newest_whole(tmp_path) is None


def test_a_full_disk_is_reported(tmp_path):
    storage.require_space(tmp_path, 1)
    with pytest.raises(OSError, match=r"it needs about 9,000,000,000,000,000 bytes, and [\d,]+ are free"):
        storage.require_space(tmp_path, 9 * 10**15)
