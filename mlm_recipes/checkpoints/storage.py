"""Checkpoints that are whole or not there: written aside, listed with their sha256, then put in place by one rename.

What lies in a run folder under `checkpoint-N` has been on the disk, complete, before it got that name. A process that
is killed at any moment leaves the checkpoints it found, and at most a folder `.staged`, which the next save clears.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

#: What a checkpoint holds: the size and the sha256 of each of its files.
MANIFEST = "manifest.json"

#: Where a checkpoint is written before it has its name, in the folder of its run.
STAGED = ".staged"

Facts = dict[str, int | str]


def commit(staged: Path, place: Path) -> None:
    """Put a folder that has been written in its place, whole: all of it is on the disk before it bears the name.

    What stood at `place` is gone afterwards. Both must be on one file system.

    Raises: OSError.
    """
    files = {path.relative_to(staged).as_posix(): _settled(path) for path in _files(staged)}
    (staged / MANIFEST).write_text(_manifest(files), encoding="utf-8")
    _sync(staged / MANIFEST)
    for folder in [*(path for path in staged.rglob("*") if path.is_dir()), staged]:
        _sync(folder)
    if place.exists():
        remove(place)
    os.rename(staged, place)
    _sync(place.parent)


def fault(checkpoint: Path, content: bool = True) -> str | None:
    """Return what is wrong with a checkpoint, or None: every file must be there and be what the manifest says.

    A file removed, cut short or changed in a single bit is found, the manifest itself among them. Without `content`
    only names and sizes are compared, in no time. Files that the manifest does not list are not looked at.
    """
    try:
        text = (checkpoint / MANIFEST).read_text(encoding="utf-8")
        files: dict[str, Facts] = json.loads(text)["files"]
        sizes = {name: int(facts["bytes"]) for name, facts in files.items()}
        if text != _manifest(files):
            return f"its {MANIFEST} is damaged"
    except FileNotFoundError:
        return f"it has no {MANIFEST}, which is written last"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    for name, written in sizes.items():
        path = checkpoint / name
        try:
            if (size := path.stat().st_size) != written:
                return f"{name} has {size:,} bytes and was written with {written:,}"
            if content and _sha256(path) != files[name]["sha256"]:
                return f"{name} is damaged: its sha256 is not the one it was written with"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, oldest first: those whose files are there, in the size they had.

    >>> list_checkpoints(Path("nowhere"))
    []
    """
    return [path for path in _numbered(folder) if fault(path, content=False) is None]


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run folder in which nothing is wrong; log which newer ones are passed over."""
    for path in reversed(_numbered(folder)):
        wrong = fault(path)
        if wrong is None:
            return path
        logger.warning("%s is passed over: %s.", path, wrong)
    return None


def rotate(folder: Path, limit: int | None, newest: Path, best: Path | None = None) -> None:
    """Remove the oldest checkpoints of a run folder beyond `limit`; the `newest` and the `best` are kept in any case.

    The newest is the one just saved, which need not have the highest number: the run may go on from an earlier one.
    Folders that are no checkpoints, or not whole, neither count nor are removed.
    """
    if not limit or limit < 0:
        return
    there = list_checkpoints(folder)
    spared = {path.resolve() for path in (newest, best) if path is not None}
    kept = {path for path in there if path.resolve() in spared}
    surplus = len(there) - max(limit, len(kept))
    for path in [path for path in there if path not in kept][: max(0, surplus)]:
        remove(path)


def remove(folder: Path) -> None:
    """Remove a checkpoint; one that is half removed, because the process was killed, is none any more."""
    aside = folder.parent / STAGED / f"removed-{folder.name}"
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    shutil.rmtree(aside)


def clear_staged(folder: Path) -> None:
    """Remove what a save that did not come to its end has left in a run folder."""
    shutil.rmtree(folder / STAGED, ignore_errors=True)


def require_space(folder: Path, needed: int) -> None:
    """Raise OSError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it needs about {needed:,} bytes, and {free:,} are free")


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder and below it."""
    return sum(path.stat().st_size for path in _files(folder))


def _numbered(folder: Path) -> list[Path]:
    """Return what bears a checkpoint's name, oldest first."""
    named = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    }
    return [named[step] for step in sorted(named)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _settled(path: Path) -> Facts:
    """Return the size and the sha256 of a file that is on the disk."""
    _sync(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _manifest(files: dict[str, Facts]) -> str:
    """Return a manifest's text; it holds a sha256 of itself, and only in this form is it one."""
    listed = json.dumps(files, sort_keys=True)
    content: dict[str, Any] = {"files": files, "sha256": hashlib.sha256(listed.encode()).hexdigest()}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows settles what may be written
    except PermissionError:
        if path.is_dir():
            return  # Windows opens no folder, and keeps a journal of its names
        raise
    try:
        os.fsync(descriptor)
    except PermissionError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
