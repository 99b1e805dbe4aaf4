"""Finds the files of a tokenizer: a model's own, or one from elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .git_lfs import is_pointer
from .model_folder import find_folder

#: The files that hold a vocabulary; any of these sets is enough. tokenizer_config.json holds only settings: without a
#: vocabulary, transformers makes a tokenizer of five tokens and says nothing (5.23).
_VOCABULARIES = (
    *(("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"), ("*.model",), ("*.codes",)),
    ("tokenizer_config.json",),  # tokenizers of bytes or characters have no vocabulary in a file
)


def holds_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer's files; that of `mini-random` does not, so each corpus trains one.

    >>> from mlm_recipes.sources.model_folder import model_folder
    >>> holds_tokenizer(model_folder("mini")), holds_tokenizer(model_folder("mini-random"))
    (True, False)
    """
    return any(all(any(folder.glob(file)) for file in files) for files in _VOCABULARIES)


def tokenizer_folder(name: str | os.PathLike[str], revision: str | None = None, *, with_code: bool = False) -> Path:
    """Return the local folder of a tokenizer that is named by itself: as `model_folder`, without weights or config.

    Raises: ValueError for a file; otherwise as `model_folder`.

    >>> tokenizer_folder("mini").name
    'mini'
    """
    name = os.fspath(name)
    if Path(name).expanduser().is_file():
        raise ValueError(
            f"tokenizer: {name!r} is a file. Accepted: the folder that tokenizer.save_pretrained wrote, or a hub id. "
            "Name the folder."
        )
    return find_folder("tokenizer", name, revision, with_code)


def require_content(folder: Path, name: str | os.PathLike[str]) -> None:
    """Raise ValueError if a tokenizer's file is only the pointer that git-lfs leaves in its place."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".txt", ".model", ".codes") and path.is_file() and is_pointer(path):
            raise ValueError(
                f"tokenizer: {path.name} of {os.fspath(name)!r} is a pointer of git-lfs, not the file itself. "
                f"Accepted: the complete file. Run `git lfs pull` in {str(folder)!r}, or fetch it from its page."
            )


def hint(name: str | os.PathLike[str], folder: Path) -> str:
    """Return what could be the tokenizer of a model whose folder has none: the folder above, or what it was made of.

    >>> from mlm_recipes.sources.model_folder import model_folder
    >>> hint("mini-random", model_folder("mini-random"))
    'NAME'
    """
    if Path(name).expanduser().is_dir() and holds_tokenizer(folder.absolute().parent):
        return os.path.normpath(Path(name) / "..")
    try:
        made_of = json.loads((folder / "config.json").read_text("utf-8")).get("_name_or_path")
    except (OSError, ValueError, AttributeError):
        made_of = None
    return made_of if isinstance(made_of, str) and made_of not in ("", os.fspath(name)) else "NAME"
