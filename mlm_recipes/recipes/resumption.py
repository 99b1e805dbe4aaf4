"""Which run `train` goes on with: its checkpoint, its folder, and what in that folder is not its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..checkpoints.contract import find_checkpoint, saved_values
from ..checkpoints.storage import list_checkpoints, newest_whole
from ..training.config import MLMConfig
from ..training.processes import from_main
from ..training.restarts import restarted
from . import run_folder
from .arguments import recipe_path

#: What `train_minutes` becomes in the recipe of a run.
_LENGTH = ("train_minutes", "max_steps", "per_device_train_batch_size")

#: transformers' stand-in for an output_dir that nobody named.
_NOT_NAMED = "trainer_output"


logger = logging.getLogger(__name__)


def asked_for(config: MLMConfig) -> str | None:
    """Return the folder that the run is to have, or None if nobody named one."""
    return None if config.output_dir == _NOT_NAMED else config.output_dir


def go_on_if_begun(config: MLMConfig) -> None:
    """With `resume_from_checkpoint` auto, go on with this run where it was begun, or else have it start.

    The same for processes that torchrun has started again (`--max-restarts`). A run that was begun is the one in
    `output_dir`, or else the newest under runs/, that is unfinished and has the very same recipe.
    """
    again = restarted()
    auto = str(config.resume_from_checkpoint).lower() == "auto"
    if not (again or auto):
        return
    begun = from_main(lambda: _begun(config))
    if auto:
        config.resume_from_checkpoint = None
    if begun is None:
        return
    folder, checkpoint = begun
    if config.train_minutes is not None:
        _take_length(config, yaml.safe_load((folder / "recipe.yaml").read_text("utf-8")))
    config.output_dir, config.overwrite = str(folder), True
    if checkpoint is not None:
        config.resume_from_checkpoint = str(checkpoint)
    logger.info("%s was begun before; %s.", folder, f"going on from {checkpoint}" if checkpoint else "it starts anew")


def _begun(config: MLMConfig) -> tuple[Path, Path | None] | None:
    values = config.to_recipe()
    if config.train_minutes is not None:  # what became of it stands in the recipe of the run that was begun
        values = {name: value for name, value in values.items() if name not in _LENGTH}
    runs = run_folder.find_unfinished(values)
    if (asked := asked_for(config)) is not None:
        runs = [Path(asked)] if run_folder.is_unfinished(Path(asked), values) else []
    if not runs:
        return None
    folder = max(runs, key=lambda run: max(path.stat().st_mtime for path in [run / "recipe.yaml", *run.iterdir()]))
    return folder, newest_whole(folder)


def take_length_of(checkpoint: Path, config: MLMConfig) -> None:
    """With `train_minutes`, take the steps that were chosen from it when the checkpoint's run was begun."""
    if config.train_minutes is not None:
        _take_length(config, from_main(lambda: saved_values(checkpoint)))


def _take_length(config: MLMConfig, values: Mapping[str, Any]) -> None:
    for name in _LENGTH:
        if name in values:  # a recipe of before there was train_minutes has the others
            setattr(config, name, values[name])
    config.train_minutes = None


def checkpoint_asked_for(recipe: Any, config: MLMConfig) -> Path | None:
    """Return the checkpoint that `resume_from_checkpoint` means."""
    asked = str(config.resume_from_checkpoint or "false")
    if asked.lower() == "false":
        if config.change_on_resume:
            raise ValueError(
                f"change_on_resume: received {' '.join(config.change_on_resume)} and nothing to resume. Accepted: with "
                "--resume_from_checkpoint. Add it, or leave this out."
            )
        return None
    if asked.lower() != "true":
        return from_main(lambda: find_checkpoint(asked, ""))
    place = asked_for(config)
    if place is None and isinstance(recipe, str | Path) and recipe_path(recipe).name == "recipe.yaml":
        place = str(recipe_path(recipe).parent)
    if place is None:
        recipe = config.to_recipe()
        runs = run_folder.find_unfinished({name: recipe[name] for name in ("corpus", "model")})
        begun = [checkpoints[-1] for run in runs if (checkpoints := list_checkpoints(run))]
        place = str(max(begun, key=lambda path: path.stat().st_mtime, default="runs"))
    return from_main(lambda: find_checkpoint(True, place))


def is_its_own(checkpoint: Path, config: MLMConfig) -> bool:
    """Tell whether the run goes on in the folder of the one that left the checkpoint; without another it does.

    Raises: FileExistsError if that run is finished, and `overwrite` is not set.
    """
    home = checkpoint.parent
    if asked_for(config) is None and (home / "recipe.yaml").is_file():
        config.output_dir = str(home)
    if home.resolve() != Path(str(config.output_dir)).resolve() or not (home / "recipe.yaml").is_file():
        return False
    if (home / "metrics.json").exists() and not config.overwrite:
        raise FileExistsError(
            f"resume_from_checkpoint: {str(home)!r} already holds a finished run. Accepted: one that was interrupted. "
            "Allow what is there to be replaced with --overwrite (to make it longer: --overwrite --max_steps N "
            f"--change_on_resume max_steps), or go on elsewhere: --resume_from_checkpoint {checkpoint} --output_dir "
            "NEW."
        )
    return True


def abandoned(folder: Path, checkpoint: Path | None, config: MLMConfig, changed: bool) -> list[Path]:
    """Return the checkpoints in the run's folder that are not its own: of one begun anew, or that goes on differently.

    Raises: FileExistsError if there are any, and `overwrite` is not set.
    """
    there = list_checkpoints(folder)
    if checkpoint is not None and checkpoint.parent.resolve() == folder.resolve():
        newer = [path.name for path in there].index(checkpoint.name) + 1
        there = there[newer:] if changed else []
    if there and not config.overwrite:
        raise FileExistsError(
            f"resume_from_checkpoint: {str(there[-1])!r} is newer and was made without the change. Accepted: the "
            "newest checkpoint, a new --output_dir, or --overwrite, which removes what is newer."
        )
    return there


class RecipeWithCheckpoint(TrainerCallback):
    """Write recipe.yaml with the first checkpoint, so that killed before it, the run goes on as it was."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write it."""
        run_folder.begin(self.folder, self.values)
