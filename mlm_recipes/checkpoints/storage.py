"""Atomic checkpoints: written to a staging folder, listed with their sha256, then moved into place by one rename.

A folder gets the name `checkpoint-N` only when all its files are on disk. A process that is killed at any moment
leaves earlier checkpoints intact, and at most a folder `.staged`, which the next save clears.
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

from .foreign import foreign

logger = logging.getLogger(__name__)

#: Lists a checkpoint's files, with the size and the sha256 of each.
MANIFEST = "manifest.json"

#: The folder within a run folder where a checkpoint is written before it is renamed.
STAGED = ".staged"

Facts = dict[str, int | str]


def commit(staged: Path, place: Path) -> None:
    """Move a finished folder to `place`, after all of it has been flushed to disk.

    A folder that is already at `place` is removed. Both must be on the same file system.

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
    """Return what is wrong with a checkpoint, or None: every file must exist and match the manifest.

    A file that is missing, truncated or changed in a single bit is detected, including the manifest itself. Without
    `content` only names and sizes are compared, which takes no time. Files that the manifest does not list are ignored.
    """
    try:
        text = (checkpoint / MANIFEST).read_text(encoding="utf-8")
        files: dict[str, Facts] = json.loads(text)["files"]
        sizes = {name: int(facts["bytes"]) for name, facts in files.items()}
        if text != _manifest(files):
            return f"its {MANIFEST} is damaged"
    except FileNotFoundError:
        other = foreign(checkpoint)
        return f"it is {other.what}" if other is not None else f"it has no {MANIFEST}, which is written last"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    for name, written in sizes.items():
        path = checkpoint / name
        try:
            if (size := path.stat().st_size) != written:
                return f"{name} has {size:,} bytes instead of {written:,}"
            if content and _sha256(path) != files[name]["sha256"]:
                return f"{name} is damaged: its sha256 is not the one in the manifest"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, oldest first: those whose files all exist, with the recorded sizes.

    >>> list_checkpoints(Path("nowhere"))
    []
    """
    return [path for path in _numbered(folder) if fault(path, content=False) is None]


def newest_whole(folder: Path) -> Path | None:
    """Return the newest complete, undamaged checkpoint of a run folder; log the newer ones that are skipped."""
    for path in reversed(_numbered(folder)):
        wrong = fault(path)
        if wrong is None:
            return path
        logger.warning("%s is skipped: %s.", path, wrong)
    return None


def rotate(folder: Path, limit: int | None, newest: Path, best: Path | None = None) -> None:
    """Remove the oldest checkpoints of a run folder beyond `limit`; `newest` and `best` are always kept.

    `newest` is the one just saved. It may not have the highest number: a run can be resumed from an earlier one.
    Folders that are not complete checkpoints are neither counted nor removed.
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
    """Remove a checkpoint; if the process is killed halfway, what is left no longer counts as a checkpoint."""
    aside = folder.parent / STAGED / f"removed-{folder.name}"
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    shutil.rmtree(aside)


def clear_staged(folder: Path) -> None:
    """Remove what an interrupted save has left in a run folder."""
    shutil.rmtree(folder / STAGED, ignore_errors=True)


def require_space(folder: Path, needed: int) -> None:
    """Raise OSError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it needs about {needed:,} bytes, and {free:,} are free")


def size_of(folder: Path) -> int:
    """Return the total size of all files in and below a folder, in bytes."""
    return sum(path.stat().st_size for path in _files(folder))


def _numbered(folder: Path) -> list[Path]:
    """Return the folders that are named like a checkpoint, oldest first."""
    named = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    }
    return [named[step] for step in sorted(named)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _settled(path: Path) -> Facts:
    """Flush a file to disk and return its size and sha256."""
    _sync(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _manifest(files: dict[str, Facts]) -> str:
    """Return a manifest's text, which includes a sha256 of its own list; any other form of it counts as damaged."""
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
    """Flush a file, or a folder's list of names, to disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes only writable files
    except PermissionError:
        if path.is_dir():
            return  # Windows cannot open a folder, and journals its names
        raise
    try:
        os.fsync(descriptor)
    except PermissionError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
