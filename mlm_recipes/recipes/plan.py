"""Decides a run's folder, the checkpoint that it resumes, and its values, before anything is loaded.

What a run on GPUs would cost, the verb `plan`, is in `cluster/`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..checkpoints.resume_contract import find_checkpoint, resume_request, saved_values
from ..checkpoints.storage import list_checkpoints, newest_whole
from ..sources.model_folder import built_in_models
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.distributed.torchrun_restarts import restarted
from . import run_folder
from .arguments import read_config, recipe_path
from .prepared_text import left_to_the_corpus

logger = logging.getLogger(__name__)

#: The values that `train_minutes` sets in a run's recipe.
_LENGTH = ("train_minutes", "max_steps", "per_device_train_batch_size", "tokens_per_batch", "global_batch_size")

#: transformers' placeholder for an output_dir that is not set.
_NOT_NAMED = "trainer_output"


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run, made before anything is loaded.

    Attributes:
        config: all values of the run.
        folder: the run's folder; None: a new folder under runs/, named after the corpus.
        checkpoint: the checkpoint that it resumes, if any.
        continues: whether it resumes in the folder of the run that saved the checkpoint.
        overwrite: whether `folder` may already contain a run.
        finished: whether `folder` holds this very run, finished, so that nothing is left to train.
    """

    config: MLMConfig
    folder: Path | None
    checkpoint: Path | None = None
    continues: bool = False
    overwrite: bool = False
    finished: bool = False

    def abandoned(self, folder: Path, changed: bool) -> list[Path]:
        """Return the checkpoints in the claimed folder that do not belong to this run and are to be removed.

        If a run starts over, these are all; if values have `changed`, those newer than the resumed one.

        Raises: FileExistsError if there are any and `overwrite` is not set.
        """
        found = list_checkpoints(folder)
        if self.checkpoint is not None and self.checkpoint.parent.resolve() == folder.resolve():
            newer = [path.name for path in found].index(self.checkpoint.name) + 1
            found = found[newer:] if changed else []
        if found and not self.overwrite:
            raise FileExistsError(
                f"resume_from_checkpoint: {str(found[-1])!r} is newer and was saved without the change. Accepted: the "
                "newest checkpoint, a new --output_dir, or --overwrite, which removes newer checkpoints. Use one of "
                "them."
            )
        return found


def plan_run(recipe: str | Path | MLMConfig | None, overrides: Mapping[str, Any]) -> RunPlan:
    """Decide which run `train` starts or resumes, with which values and in which folder; nothing is written.

    With `resume_from_checkpoint="auto"`, and in processes that torchrun has restarted (`--max-restarts`), the run to
    resume is an unfinished one with exactly the same recipe, if there is any: the one in `output_dir`, or without that
    the newest under runs/. With `auto`, a finished run with exactly the same recipe is as good, unless `overwrite` is
    set: a job that is queued again until it ends with 0 then ends.

    Raises: ValueError or FileNotFoundError for a checkpoint that cannot be resumed; FileExistsError for a folder that
    contains a different run, or a finished one, unless `overwrite` is set.
    """
    if recipe is None:
        recipe = _resumed_recipe(overrides)
    config = read_config(recipe, overrides)
    folder, overwrite = output_folder(config), config.overwrite
    asked = resume_request(config.resume_from_checkpoint)
    begun = from_main(lambda: _begun(config)) if asked == "auto" or restarted() else None
    if begun is None and asked == "auto" and not overwrite:
        done = from_main(lambda: _newest(config, run_folder.is_finished))
        if done is not None:
            return RunPlan(config, done, finished=True)
    if begun is not None:
        folder, overwrite, checkpoint = begun[0], True, begun[1]
        if config.train_minutes is not None:
            config = _with_length(config, yaml.safe_load((folder / "recipe.yaml").read_text("utf-8")))
        then = f"resuming from {checkpoint}" if checkpoint else "starting over"
        logger.info("%s was started before; %s.", folder, then)
        asked = str(checkpoint) if checkpoint else asked
    checkpoint = None if asked == "auto" else _checkpoint(asked, recipe, config, folder)
    if checkpoint is None and config.change_on_resume:
        raise ValueError(
            f"change_on_resume: received {' '.join(config.change_on_resume)} and nothing to resume. Accepted: names "
            "of values together with --resume_from_checkpoint. Add that, or leave this out."
        )
    if checkpoint is not None and config.train_minutes is not None:
        found = checkpoint  # for mypy, which does not narrow the type inside the lambda
        config = _with_length(config, from_main(lambda: saved_values(found)))
    if checkpoint is not None and folder is None and (checkpoint.parent / "recipe.yaml").is_file():
        folder = checkpoint.parent
    continues = checkpoint is not None and _is_its_own(checkpoint, folder, overwrite)
    if not continues:
        _refuse_own_model(folder, config.model)
        run_folder.refuse_to_overwrite(folder, overwrite)
    return RunPlan(config, folder, checkpoint, continues, overwrite)


def _refuse_own_model(folder: Path | None, model: str) -> None:
    """Raise ValueError for a run that would replace the model that it starts from."""
    place = Path(model).expanduser().resolve()
    if folder is None or model in built_in_models() or not place.exists() or not folder.exists():
        return
    if any(folder.samefile(each) for each in (place, *place.parents)):
        raise ValueError(
            f"output_dir: received {str(folder)!r}, where the model {model!r} is, which the run would replace. "
            "Accepted: another folder, so that the model before training can still be compared with. Pass another "
            "--output_dir, or leave it out."
        )


def output_folder(config: MLMConfig) -> Path | None:
    """Return the folder in `output_dir`, or None if it is not set."""
    return None if config.output_dir == _NOT_NAMED else Path(str(config.output_dir))


def _begun(config: MLMConfig) -> tuple[Path, Path | None] | None:
    """Return the folder of the run that was started with these values, and its newest complete checkpoint."""
    folder = _newest(config, run_folder.is_unfinished)
    return None if folder is None else (folder, newest_whole(folder))


def _newest(config: MLMConfig, is_one: Callable[[Path, Mapping[str, Any]], bool]) -> Path | None:
    """Return the run that `is_one` with these values: in `output_dir`, or without that the newest under runs/."""
    values = config.to_recipe()
    if config.train_minutes is not None:  # the started run's recipe contains the chosen values instead
        values = {name: value for name, value in values.items() if name not in _chosen_names(values)}
    of_corpus = left_to_the_corpus(config)  # so with a prepared corpus's values
    values = {name: value for name, value in values.items() if name not in of_corpus}
    asked = output_folder(config)
    places = run_folder.under_runs() if asked is None else [asked]
    runs = [place for place in places if is_one(place, values)]
    return max(runs, key=lambda run: max(path.stat().st_mtime for path in run.iterdir()), default=None)


def _with_length(config: MLMConfig, values: Mapping[str, Any]) -> MLMConfig:
    """Return the config with the number of steps that the run chose at its start instead of `train_minutes`."""
    # Old recipes have no train_minutes.
    chosen = {name: values[name] for name in _chosen_names(values) if name in values}
    return replace(config, **chosen | {"train_minutes": None})


def _chosen_names(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the values that `train_minutes` sets: micro-batches follow if the global batch is one."""
    follows = ("gradient_accumulation_steps",) if values.get("global_batch_size") is not None else ()
    return _LENGTH + follows


def _checkpoint(asked: str | bool, recipe: Any, config: MLMConfig, folder: Path | None) -> Path | None:
    """Return the checkpoint that `asked` names by its path, or with True the newest one of the run."""
    if asked is False:
        return None
    if asked is not True:
        return from_main(lambda: find_checkpoint(asked, ""))
    place = folder
    if place is None and isinstance(recipe, str | Path) and recipe_path(recipe).name == "recipe.yaml":
        place = recipe_path(recipe).parent
    if place is None:
        place = from_main(lambda: _newest_checkpoint(config))
    found = place or Path("runs")
    return from_main(lambda: find_checkpoint(True, found))


def _resumed_recipe(overrides: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that is resumed without a recipe, whose recipe.yaml the overrides change.

    So an override is checked together with the values of that run, not with those of the default recipe.
    """
    asked = resume_request(overrides.get("resume_from_checkpoint"))
    if asked is False or asked == "auto":
        return None
    if asked is not True:
        place = Path(str(asked)).expanduser()
    elif "output_dir" in overrides:
        place = Path(str(overrides["output_dir"])).expanduser()
    else:
        named = read_config(None, {name: overrides[name] for name in ("corpus", "model") if name in overrides})
        found = from_main(lambda: _newest_checkpoint(named))
        if found is None:
            return None
        place = found
    return next((folder for folder in (place, place.parent) if (folder / "recipe.yaml").is_file()), None)


def _newest_checkpoint(config: MLMConfig) -> Path | None:
    """Return the newest checkpoint of the unfinished runs under runs/ with the corpus and the model of a config."""
    values = config.to_recipe()
    runs = run_folder.find_unfinished({name: values[name] for name in ("corpus", "model")})
    begun = [checkpoints[-1] for run in runs if (checkpoints := list_checkpoints(run))]
    return max(begun, key=lambda path: path.stat().st_mtime, default=None)


def _is_its_own(checkpoint: Path, folder: Path | None, overwrite: bool) -> bool:
    """Tell whether the run resumes in the folder of the run that saved the checkpoint.

    Raises: FileExistsError if that run is finished and `overwrite` is not set.
    """
    home = checkpoint.parent
    if folder is None or home.resolve() != folder.resolve() or not (home / "recipe.yaml").is_file():
        return False
    if (home / "metrics.json").exists() and not overwrite:
        raise FileExistsError(
            f"resume_from_checkpoint: {str(home)!r} already holds a finished run. Accepted: an interrupted run. "
            "Allow the finished run to be replaced with --overwrite (to make it longer: --overwrite --max_steps N "
            f"--change_on_resume max_steps), or use a new folder: --resume_from_checkpoint {checkpoint} --output_dir "
            "NEW."
        )
    return True
