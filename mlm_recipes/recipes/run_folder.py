"""The folder of a run: claim one, never overwrite a finished one, and write the files that are read later."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .. import __version__
from ..checkpoints.storage import STAGED, clear_staged, list_checkpoints
from ..metrics_file import Metrics
from ..report import run_report
from ..report.unexpected_error import happening_in
from ..training.config import own_fields
from ..training.distributed.processes import all_or_none
from .locks import acquire, lock_of, release

logger = logging.getLogger(__name__)

#: The results of `finetune` for the run's model.
FINETUNE = "finetune.json"

#: The lock file of a run that uses a folder; removed when the run ends, but may be left empty if the run is killed.
LOCK = ".lock"

WRITTEN = (
    "metrics.json",
    "config.json",
    "model.safetensors",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "recipe.yaml",
    "report.html",
    "README.md",
    "checkpoint-*",
)


#: A run's model or adapter. What an earlier run left of the other kind would be read together with this one's.
_MODEL = ("config.json", "model*.safetensors", "model.safetensors.index.json", "adapter_*")


def refuse_to_overwrite(folder: str | Path | None, overwrite: bool = False) -> None:
    """Raise FileExistsError if `folder` is a file or holds one that a run writes, and `overwrite` is not set."""
    if folder is None or overwrite:
        return
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(
            f"output_dir: {str(folder)!r} is a file. Accepted: a new or an existing folder. Name another one."
        )
    held = [name for name in WRITTEN if any(folder.glob(name))]
    if held and "metrics.json" not in held and (newest := list_checkpoints(folder)):
        raise FileExistsError(
            f"output_dir: {str(folder)!r} holds an interrupted run, whose newest checkpoint is "
            f"{newest[-1].name}. Accepted: an empty or new folder. Resume that run with --resume_from_checkpoint true, "
            "or name another folder; --overwrite removes these checkpoints and starts over."
        )
    if held:
        what = "a finished run" if "metrics.json" in held else "files that a run would overwrite"
        raise FileExistsError(
            f"output_dir: {str(folder)!r} already holds {what} ({', '.join(held)}). Accepted: an empty or new folder. "
            "Name another one, leave --output_dir out, or allow it with --overwrite."
        )


def find_unfinished(values: Mapping[str, Any]) -> list[Path]:
    """Return the folders of unfinished runs under runs/ whose recipe.yaml has these values."""
    return [folder for folder in under_runs() if is_unfinished(folder, values)]


def under_runs() -> list[Path]:
    """Return the folders under runs/ that have a recipe.yaml."""
    return [path.parent for path in sorted(Path("runs").glob("*/recipe.yaml"))]


def is_unfinished(folder: Path, values: Mapping[str, Any]) -> bool:
    """Tell whether a folder has a recipe.yaml with these values, and no metrics.json yet."""
    return not (folder / "metrics.json").exists() and _has(folder, values)


def is_finished(folder: Path, values: Mapping[str, Any]) -> bool:
    """Tell whether a folder has a recipe.yaml with these values, and the metrics.json of a run that has ended."""
    return (folder / "metrics.json").exists() and _has(folder, values)


def _has(folder: Path, values: Mapping[str, Any]) -> bool:
    """Tell whether a folder has a recipe.yaml with these values.

    A value that an earlier version did not have counts as this version's default.
    """
    if not (folder / "recipe.yaml").is_file():
        return False
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text("utf-8"))
    if not isinstance(recipe, dict):
        return False
    recipe = {name: item.default for name, item in own_fields().items()} | recipe
    return values.items() <= {name: recipe[name] for name in values if name in recipe}.items()


def claim(folder: str | Path | None, name: str) -> Path:
    """Create a run's folder and return it, the same one in every process.

    Without a `folder` it is `runs/<name>`, or the first unused one of `runs/<name>-2`, `-3`, ...
    """
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return Path(folder)
    state, claimed = PartialState(), [""]
    if state.is_main_process:
        stem, number = file_stem(name), 1
        while not claimed[0]:
            free = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
            try:
                free.mkdir(parents=True)  # of two runs started at once, only one succeeds here
                claimed[0] = str(free)
            except FileExistsError:
                number += 1
    if state.num_processes > 1:
        broadcast_object_list(claimed)
    return Path(claimed[0])


def file_stem(name: str) -> str:
    """Return a name as a valid file or folder name.

    >>> file_stem("owner/my notes")
    'owner-my-notes'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this run within `with`; the lock is released if the process is killed.

    Raises: OSError, in all processes, if another run has locked it.
    """
    lock = lock_of(folder / LOCK)
    try:
        all_or_none(lambda: _lock(lock, folder) if PartialState().is_main_process else None)
        with happening_in(folder):
            yield
    finally:
        release(lock)


def _lock(lock: FileLock, folder: Path) -> None:
    acquire(
        lock,
        f"output_dir: another run is using {str(folder)!r}. Accepted: a folder that no other run uses. Wait for that "
        "run, or name another --output_dir.",
        folder,
        other="run",
    )


def give_back(folder: Path) -> None:
    """Remove a folder that was claimed and is still empty."""
    with suppress(OSError):
        folder.rmdir()


def remove_checkpoints(folder: Path, checkpoints: Iterable[Path]) -> None:
    """Remove checkpoints of an earlier run, which could be mistaken for this one's."""
    for path in checkpoints:
        assert path.parent == folder, path
        assert re.fullmatch(r"checkpoint-\d+", path.name), path
        shutil.rmtree(path)


def write_recipe(folder: Path, values: dict[str, Any]) -> None:
    """Write recipe.yaml, which reproduces the run."""
    _write(folder / "recipe.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def begin(folder: Path, values: dict[str, Any]) -> None:
    """Write recipe.yaml, and remove what says something about the model that was here: measures, pages, comparisons."""
    write_recipe(folder, values)
    for name in ("metrics.json", FINETUNE, *run_report.FILES):
        (folder / name).unlink(missing_ok=True)


class RecipeWithCheckpoint(TrainerCallback):
    """Write a resumed run's recipe.yaml with its first checkpoint; if it is killed before, the old recipe fits."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write recipe.yaml."""
        begin(self.folder, self.values)


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write metrics.json, which marks the run as finished."""
    write_json(folder / "metrics.json", metrics)


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON atomically."""
    _write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file atomically: afterwards it is either complete or unchanged."""
    aside = path.with_name(f".{path.name}")
    # JSON's escape for a lone surrogate, which the name of a file that is not UTF-8 contains.
    aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(aside, path)


def staging(folder: Path, clear: bool = True) -> Path:
    """Return where a run's model is written before it is moved into its folder; `clear` removes leftovers."""
    if clear:
        clear_staged(folder)
    return folder / STAGED / "model"


def take_in(staged: Path, folder: Path, values: dict[str, Any]) -> list[Path]:
    """Move a completely written model and its other files from `staged` into the run's folder, and remove `staged`.

    A model that an earlier run left there is removed. Until the folder gets its metrics.json, it holds an unfinished
    run with these `values`. Returns the files' new paths.

    Raises: OSError, which says where the model is, if the files cannot be moved.
    """
    try:
        begin(folder, values)
        moved = [folder / path.name for path in sorted(staged.iterdir())]
        for path in sorted({path for name in _MODEL for path in folder.glob(name)}.difference(moved)):
            path.unlink()
        for place in moved:
            os.replace(staged / place.name, place)
    except OSError as error:
        raise OSError(
            f"output_dir: the trained model could not be moved into {str(folder)!r} ({error}). It is complete "
            f"in {str(staged)!r}, except for files already moved. Accepted: a folder whose files can be replaced. "
            f"Move the rest by hand; `mlm-recipes evaluate {folder}` then measures it."
        ) from error
    clear_staged(folder)
    return moved


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a run's numbers.

    A package that is on the path but not installed has no version: `not known`.

    >>> sorted(versions())[:3]
    ['accelerate', 'datasets', 'evaluate']
    """
    found = {"python": platform.python_version(), "mlm-recipes": __version__}
    for package in ("torch", "transformers", "datasets", "accelerate", "evaluate", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not known: not installed as a package"
    return found
