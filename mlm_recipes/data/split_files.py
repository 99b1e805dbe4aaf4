"""Which files of a folder belong to which split: a saved DatasetDict, or files and folders named as on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..metrics_file import SplitRole

Files = list[tuple[Path, str]]

#: The names of splits, by what they are used for (https://huggingface.co/docs/hub/datasets-file-names-and-splits).
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}

_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")


def splits_in(folder: Path, files: Files) -> dict[str, Files]:
    """Return a folder's files by split; empty if it has none.

    Raises: ValueError if some files belong to splits and others do not.

    >>> files = [(Path(f"notes/{name}.jsonl"), "jsonl") for name in ("train", "dev")]
    >>> list(splits_in(Path("notes"), files)), splits_in(Path("notes"), files[:1])
    (['train', 'validation'], {})
    """
    if named := _saved_splits(folder):
        return _by(files, lambda file: next((name for name in named if file.parts[0] == name), None), folder)
    for rule in (_shard, _by_folder, _by_name):
        found = _by(files, rule, folder)
        if not found:
            continue
        rest = [file for file, format in files if all((file, format) not in part for part in found.values())]
        if not rest:
            return found if len(found) > 1 else {}
        if "train" in found and len(found) > 1:
            raise ValueError(
                f"corpus: in the folder {str(folder)!r} some files are named after the splits {', '.join(found)}, and "
                f"{len(rest)} are not ({rest[0].name}). Accepted: a folder in which all files belong to splits, or "
                f"none. To read all of them as one text, name a pattern: --corpus '{folder}/**/*{rest[0].suffix}'; to "
                "read one split, name its file or its folder."
            )
    return {}


def split_of_saved(folder: Path) -> dict[str, SplitRole]:
    """Return what each split is used for if the folder is one split of a saved DatasetDict; otherwise nothing."""
    named = _saved_splits(folder.resolve().parent)
    return roles(named, folder.resolve().name, None) if folder.resolve().name in named else {}


def names_of_splits(files: Iterable[Path]) -> list[str]:
    """Return the splits that the files' names mention.

    >>> names_of_splits([Path("notes/dev.txt"), Path("notes/train.txt")])
    ['train', 'validation']
    """
    found = {_by_name(file) for file in files}
    return [name for name in NAMES if name in found]


def saved_files(files: Iterable[Path]) -> list[Path]:
    """Return the files without those that `datasets` left beside a saved data set and that are no part of it."""
    states: dict[Path, set[str] | None] = {}
    kept = []
    for file in files:
        if file.parent not in states:
            state = file.parent / "state.json"
            listed = _listed(state) if file.suffix == ".arrow" and state.is_file() else None
            states[file.parent] = listed
        listed = states[file.parent]
        if listed is None or file.suffix != ".arrow" or file.name in listed:
            kept.append(file)
    return kept


def roles(splits: Iterable[str], trained: str, held_out: str | None) -> dict[str, SplitRole]:
    """Return what each split is used for.

    >>> roles(["train", "test"], "train", None)
    {'train': 'trained on', 'test': 'not read'}
    """
    used: Mapping[str | None, SplitRole] = {held_out: "held out", trained: "trained on"}
    return {name: used.get(name, "not read") for name in splits}


def validation_among(splits: Iterable[str]) -> str | None:
    """Return the name of the split that is there to be held out, if there is one.

    >>> validation_among(["train", "dev", "test"])
    'dev'
    """
    found = list(splits)
    return next((name for name in NAMES["validation"] if name in found), None)


def _saved_splits(folder: Path) -> list[str]:
    """Return the splits of the DatasetDict that was saved in a folder; none if it is no such folder."""
    try:
        return list(json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is another program's
        return []


def _listed(state: Path) -> set[str] | None:
    try:
        return {str(file["filename"]) for file in json.loads(state.read_text("utf-8"))["_data_files"]}
    except (ValueError, KeyError, TypeError):  # another program's file of that name
        return None


def _by(files: Files, split_of: Callable[[Path], str | None], folder: Path) -> dict[str, Files]:
    """Return the files by what `split_of` says of their paths in the folder."""
    found: dict[str, Files] = {}
    for file, format in files:
        name = split_of(file.relative_to(folder))
        if name is not None:
            found.setdefault(name, []).append((file, format))
    order = [*NAMES, *sorted(found)]
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


def _shard(file: Path) -> str | None:
    shard = _SHARD.fullmatch(file.as_posix())
    return shard[1] if shard else None


def _by_folder(file: Path) -> str | None:
    return next((split for part in file.parts[:-1] if (split := _split_in(f"{part}/"))), None)


def _by_name(file: Path) -> str | None:
    return _split_in(file.name)


def _split_in(name: str) -> str | None:
    """Return the split that a name mentions as a word of its own; digits separate words, too."""
    for split, words in NAMES.items():
        if re.search(rf"(?:^|[-._ 0-9])(?:{'|'.join(words)})(?:[-._ 0-9/])", name):
            return split
    return None
