"""Finds the files of a path, a folder or a pattern, and their formats."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path
from typing import Literal

from .split_files import saved_files

PathKind = Literal["file", "folder", "pattern"]

#: Formats, and the file name extensions of each.
FORMATS = {
    "text": (".txt", ".text"),
    "markdown": (".md", ".markdown"),
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "csv": (".csv",),
    "tsv": (".tsv",),
}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_ENDINGS = {ending for endings in FORMATS.values() for ending in endings} | set(COMPRESSED)

#: Names, without extension, of files that describe a folder's other files.
_ABOUT = {"changelog", "contributing", "copying", "licence", "license", "notice", "readme", "requirements"}
_ABOUT |= {"dataset_dict", "dataset_info", "state"}  # written by `datasets` next to its data files
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")


def format_of(path: Path) -> str | None:
    """Return the format that belongs to a file's extension, or None.

    >>> [format_of(Path(name)) for name in ("a.txt", "b.jsonl.gz", "c.MD", "notes")]
    ['text', 'jsonl', 'markdown', None]
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return next((name for name, endings in FORMATS.items() if suffixes and suffixes[-1] in endings), None)


def stem(path: Path) -> str:
    """Return a file's name without the extensions of its format and compression.

    >>> stem(Path("texts/book.txt.gz")), stem(Path("texts"))
    ('book', 'texts')
    """
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return path.name


def path_kind(name: str) -> PathKind | None:
    """Return what a path is on this disk, or None if it does not exist.

    A name with wildcards is a pattern, unless there is a file or folder with exactly that name.

    >>> path_kind("/"), path_kind("texts/*.txt"), path_kind("no/such/file.txt")
    ('folder', 'pattern', None)
    """
    path = Path(name).expanduser()
    if path.exists():
        return "folder" if path.is_dir() else "file"
    return "pattern" if glob.has_magic(name) else None


def name_of(name: str, kind: PathKind) -> str:
    """Return a text's name in reports: that of its file or folder, or of the folder that a pattern begins with.

    >>> name_of("texts/book.txt.gz", "file"), name_of("texts/**/*.txt", "pattern")
    ('book', 'texts')
    """
    path = Path(name).expanduser()
    if kind == "pattern":
        path = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return stem(path.resolve())


def find_files(name: str, kind: PathKind) -> tuple[list[tuple[Path, str]], int]:
    """Return the files at a path or pattern, each with its format, and the number of other files that are skipped.

    For a folder, these are the files in it and its subfolders that have the most common format, by bytes. Hidden files
    and files that describe the others (README, LICENSE ...) are not counted, nor is what `datasets` left beside a saved
    data set. The same applies to the files that match a
    pattern. A file with an unknown extension is read as text if it is named, or if no file that matches a pattern has a
    known one.

    Raises: ValueError for a folder or a pattern without such files, or an archive.
    """
    path = Path(name).expanduser()
    if kind == "file":
        return [(path, _format_or_text(path))], 0
    if kind == "pattern":
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if not found:
            raise ValueError(
                f"corpus: no file matches {name!r} (looked in {Path.cwd()}). Accepted: a pattern such as "
                "'texts/*.txt', in quotes. Check it with ls."
            )
    else:
        found = saved_files(sorted(file for file in path.rglob("*") if file.is_file() and not _is_about(file, path)))
    by_format: dict[str, list[Path]] = {}
    for file in found:
        by_format.setdefault(format_of(file) or "", []).append(file)
    known = [format for format in FORMATS if format in by_format]
    chosen = max(known, key=lambda format: sum(file.stat().st_size for file in by_format[format]), default=None)
    if chosen is None and kind == "pattern":
        return [(file, _format_or_text(file)) for file in found], 0
    if chosen is None:
        raise ValueError(
            f"corpus: the folder {str(path)!r} contains no text. Accepted: a folder that contains, also in subfolders, "
            f"files that end in {', '.join(ending for endings in FORMATS.values() for ending in endings)}. Name a "
            "different folder, or a file."
        )
    return [(file, chosen) for file in by_format[chosen]], len(found) - len(by_format[chosen])


def _is_about(file: Path, folder: Path) -> bool:
    """Tell whether a file in a folder is hidden or describes the others."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or file.stem.lower() in _ABOUT


def _format_or_text(path: Path) -> str:
    if path.suffix.lower() in ARCHIVES or ".tar" in path.suffixes:
        raise ValueError(
            f"corpus: {str(path)!r} is an archive. Accepted: files and folders of text. Unpack it into a folder and "
            "name the folder."
        )
    return format_of(path) or "text"
