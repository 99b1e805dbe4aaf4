"""Resolves a model name: a built-in model, a local path, or a hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ..metrics_file import ModelSource
from .adapter_folder import holds_adapter
from .hub import HubUnreachableError, NotOnHubError, fetch_model, fetch_tokenizer
from .names import did_you_mean, looks_like_path

MODELS = Path(__file__).parent.parent / "bundled/models"

What = Literal["model", "tokenizer"]
_FETCH = {"model": fetch_model, "tokenizer": fetch_tokenizer}


def built_in_models() -> list[str]:
    """Return the names of the built-in models.

    >>> built_in_models()
    ['mini', 'mini-random']
    """
    return sorted(folder.name for folder in MODELS.iterdir() if (folder / "config.json").exists())


def source_of(name: str | os.PathLike[str]) -> ModelSource:
    """Return where a model that `model_folder` finds comes from: `built in`, `folder` or `hub`.

    >>> source_of("mini"), source_of("google-bert/bert-base-uncased")
    ('built in', 'hub')
    """
    if os.fspath(name) in built_in_models():
        return "built in"
    return "folder" if Path(name).expanduser().is_dir() else "hub"


def model_folder(name: str | os.PathLike[str], revision: str | None = None, *, with_code: bool = False) -> Path:
    """Return the local folder of a model: built in, already on disk, or fetched from the hub (`fetch_model`).

    `revision` is a branch, a tag or a commit on the hub; None is `main`. Only hub models have revisions. `with_code`
    also fetches its Python files.

    The folder of an adapter holds an adapter_config.json instead of a config.json.

    Raises: ValueError for an unknown name, a folder with neither, a revision of a model that is not on the
    hub, or a hub that cannot be reached; otherwise as `fetch_model`.

    >>> model_folder("mini").name
    'mini'
    """
    folder = find_folder("model", os.fspath(name), revision, with_code)
    if not is_model(folder) and Path(name).expanduser().is_dir():
        raise ValueError(
            f"model: {os.fspath(name)!r} is a folder without a config.json, so it holds no model. "
            "Accepted: a folder written by save_pretrained, such as the folder of a finished run. "
            + (_newest_checkpoint_hint(folder) or _within_hint(folder))
        )
    return folder


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a model or an adapter."""
    return (folder / "config.json").exists() or holds_adapter(folder)


def find_folder(what: What, name: str, revision: str | None, with_code: bool) -> Path:
    """Return the local folder of a model or of a tokenizer, whatever is in it; for the arguments, see `model_folder`.

    A tokenizer's folder is a model's, without its weights.

    Raises: as `model_folder`; the messages name the field `what`.
    """
    folder = Path(name).expanduser()
    if revision is not None and (name in built_in_models() or folder.is_dir()):
        raise ValueError(
            f"{what}_revision: received {revision!r} for {name!r}, which is a local {what} without revisions. "
            "Accepted: a revision for a hub id such as google-bert/bert-base-uncased. Leave it out."
        )
    if name in built_in_models():
        return MODELS / name
    if folder.is_dir():
        return folder
    if looks_like_path(name):
        raise ValueError(f"{what}: there is no folder {name!r}. Accepted: {_accepted()}. Check the path for typos.")
    try:
        return _FETCH[what](name, revision, with_code=with_code)
    except (NotOnHubError, HubUnreachableError) as error:
        if "/" in name and folder.parent.is_dir():  # owner/name, but also a folder that is not there
            beside = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
            raise ValueError(
                f"{what}: there is no folder {name!r}, and no such {what} could be fetched from the hub."
                f"{did_you_mean(folder.name, beside)} Accepted: {_accepted()}. Check the path."
            ) from error
        if isinstance(error, HubUnreachableError):
            raise ValueError(
                f"{what}: {name!r} is neither built in nor a local folder, and the hub cannot be reached."
                f"{did_you_mean(name, built_in_models())} Accepted: {_accepted()}. Without a network, use the "
                f"built-in `mini`, or copy the {what}'s folder from another machine and pass its path."
            ) from error
        raise ValueError(
            f"{what}: {name!r} is neither built in, nor a local folder, nor a model on the hub."
            f"{did_you_mean(name, built_in_models())} Accepted: {_accepted()}. "
            "Check the name; a private model needs `hf auth login`."
        ) from error


def _accepted() -> str:
    names = ", ".join(built_in_models())
    return f"a built-in name ({names}), a local folder, or a hub id such as google-bert/bert-base-uncased"


def _newest_checkpoint_hint(folder: Path) -> str:
    checkpoints = [path for path in folder.glob("checkpoint-*") if is_model(path)]
    if not checkpoints:
        return ""
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
    return f"The run may not have finished; its newest checkpoint is {newest}."


def _within_hint(folder: Path) -> str:
    """Return which folder to name: one within this one, such as the encoder of a sentence-transformers model."""
    within = sorted(path.parent for path in folder.glob("*/config.json") if any(path.parent.glob("*.safetensors")))
    if not within:
        return "Name the folder that holds config.json."
    return f"There is one within it: name {', '.join(map(str, within[:3]))}."
