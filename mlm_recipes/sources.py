"""What a typed name means: a thing built in, a path on this disk, or a hub id."""

from __future__ import annotations

import difflib
import functools
import logging
import os
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

MODELS = Path(__file__).parent / "models"
STRUCTURED = {".bin", ".csv", ".gz", ".json", ".jsonl", ".parquet", ".pdf", ".tsv", ".zip", ".zst"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known word, or `""` where none is near.

    >>> did_you_mean("learning_rat", ["learning_rate", "seed"])
    " Did you mean 'learning_rate'?"
    >>> did_you_mean("xyz", ["learning_rate", "seed"])
    ''
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def looks_like_path(name: str) -> bool:
    """Tell whether `name` was meant as a file or folder rather than a hub id.

    >>> [looks_like_path(name) for name in ("notes.txt", "./notes", "org/name", "bert-base-uncased")]
    [True, True, False, False]
    """
    starts = name.startswith((".", "~", os.sep)) or name.endswith(os.sep)
    return starts or name.count("/") > 1 or Path(name).suffix in STRUCTURED | {".txt", ".md", ".text"}


def built_in_models() -> list[str]:
    """Return the names of the models that come with the library.

    >>> built_in_models()
    ['mini', 'mini-random']
    """
    return sorted(folder.name for folder in MODELS.iterdir() if (folder / "config.json").exists())


def model_folder(name: str | os.PathLike[str]) -> Path:
    """Return the local folder of a model: built in, already on this disk, or fetched from the hub.

    Only what a model and its tokenizer need is fetched; `.bin` weights only where there are no safetensors. If the
    hub cannot be reached, what an earlier run has cached is used.

    Raises: ValueError for a name that is nothing known, a folder without a config.json, or a hub that cannot be
    reached.

    >>> model_folder("mini").name
    'mini'
    """
    name = os.fspath(name)
    if name in built_in_models():
        return MODELS / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ValueError(
                f"model: {name!r} is a folder without a config.json, so it holds no model. "
                "Accepted: a folder written by save_pretrained, such as a finished run's. "
                + (_newest_checkpoint_hint(folder) or "Name the folder that holds config.json.")
            )
        return folder
    if looks_like_path(name):
        raise ValueError(
            f"model: there is no folder {name!r}. Accepted: {_accepted_models()}. Check the path for a typing error."
        )
    return _fetch_model(name)


def _accepted_models() -> str:
    names = ", ".join(built_in_models())
    return f"a built-in name ({names}), a local folder, or a hub id such as google-bert/bert-base-uncased"


def _newest_checkpoint_hint(folder: Path) -> str:
    checkpoints = [path for path in folder.glob("checkpoint-*") if (path / "config.json").exists()]
    if not checkpoints:
        return ""
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
    return f"The run may not have finished; its newest checkpoint is {newest}."


def hub_has(name: str, repo_type: str) -> bool | None:
    """Ask the hub, once and for at most six seconds, whether it has a `model` or `dataset`; None: it does not answer.

    Left to themselves transformers and datasets retry for 23 to 46 s before they say that there is no network, and
    wait without end for a hub that accepts the connection and says nothing.

    Raises: ValueError for a repository that is there but gated.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        HfApi().repo_info(name, repo_type=repo_type, timeout=6.0)
    except GatedRepoError as error:
        raise ValueError(
            f"{repo_type}: {name!r} is gated on the hub. Accepted: one that you have access to. Ask for access on its "
            "page, log in with `hf auth login`, and run again."
        ) from error
    except (RepositoryNotFoundError, HFValidationError):
        return False
    except Exception as error:  # offline, no route, no answer, a server error: the client has a class for each
        logger.debug("the hub does not answer: %r", error)
        return None
    return True


@functools.cache  # a run asks for its model several times
def _fetch_model(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    found = hub_has(name, "model")
    if found is False:
        raise ValueError(
            f"model: {name!r} is neither built in, nor a local folder, nor a model on the hub."
            f"{did_you_mean(name, built_in_models())} Accepted: {_accepted_models()}. "
            "Check the name; a private model needs `hf auth login`."
        )
    needed = ["*.json", "*.txt", "*.model", "*.codes"]
    cached = found is None  # then what an earlier run has fetched will do
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*needed, "model*.safetensors"], local_files_only=cached))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(
                snapshot_download(name, allow_patterns=[*needed, "pytorch_model*.bin"], local_files_only=cached)
            )
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"model: {name!r} is neither built in nor a local folder, and the hub cannot be reached to look there."
            f"{did_you_mean(name, built_in_models())} Accepted: {_accepted_models()}. Without a network use the "
            "built-in `mini`, or copy the model's folder here from another machine and name its path."
        ) from error
    return folder
