"""Which files a name means, and which format each has."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path

#: Formats by the ending of a file's name, and what they hold.
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

#: Files in a folder that say something about the others, by their names without endings.
_ABOUT = {"changelog", "contributing", "copying", "licence", "license", "notice", "readme", "requirements"}
_ABOUT |= {"dataset_dict", "dataset_info", "state"}  # what datasets writes beside its own
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")


def format_of(path: Path) -> str | None:
    """Return the format that a file's name speaks of, or None.

    >>> [format_of(Path(name)) for name in ("a.txt", "b.jsonl.gz", "c.MD", "notes")]
    ['text', 'jsonl', 'markdown', None]
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return next((name for name, endings in FORMATS.items() if suffixes and suffixes[-1] in endings), None)


def stem(path: Path) -> str:
    """Return a file's name without what it says of the format.

    >>> stem(Path("texts/book.txt.gz")), stem(Path("texts"))
    ('book', 'texts')
    """
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return path.name


def name_of(path: str) -> str:
    """Return what a corpus is called by default: the name of its file or folder, or of what stands before a pattern.

    >>> name_of("texts/book.txt.gz"), name_of("texts/**/*.txt")
    ('book', 'texts')
    """
    if is_pattern(path):
        parts = Path(path).expanduser().parts
        path = str(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts)))
    return stem(Path(path).expanduser().resolve())


def is_pattern(name: str) -> bool:
    """Tell whether a name is a pattern such as `texts/*.txt`, and no file of that name is there."""
    return glob.has_magic(name) and not Path(name).expanduser().exists()


def find_files(name: str) -> tuple[list[tuple[Path, str]], int]:
    """Return the files that a path, folder or pattern means, each with its format, and how many others it leaves out.

    A folder stands for the files in it and below it that have one format, that with the most bytes; hidden files and
    those about the others (README, LICENSE ...) are left out. A single file of unknown ending is taken for text.

    Raises: ValueError for a folder or a pattern without such files, or an archive.
    """
    path = Path(name).expanduser()
    if is_pattern(name):
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if not found:
            raise ValueError(
                f"corpus: no file matches {name!r} (looked in {Path.cwd()}). Accepted: a pattern such as "
                "'texts/*.txt', in quotes. Check it with ls."
            )
    elif path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and not _is_about(file, path))
    else:
        return [(path, _known(path))], 0
    by_format: dict[str, list[Path]] = {}
    for file in found:
        by_format.setdefault(format_of(file) or "", []).append(file)
    known = [format for format in FORMATS if format in by_format]
    chosen = max(known, key=lambda format: sum(file.stat().st_size for file in by_format[format]), default=None)
    if chosen is None and is_pattern(name):
        return [(file, _known(file)) for file in found], 0  # asked for by name
    if chosen is None:
        raise ValueError(
            f"corpus: the folder {str(path)!r} holds no text. Accepted: a folder with files in it or below it that "
            "end in "
            f"{', '.join(ending for endings in FORMATS.values() for ending in endings)}. Name another folder, or a "
            "file."
        )
    return [(file, chosen) for file in by_format[chosen]], len(found) - len(by_format[chosen])


def _is_about(file: Path, folder: Path) -> bool:
    """Tell whether a file in a folder is hidden, or says something about the others."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or file.stem.lower() in _ABOUT


def _known(path: Path) -> str:
    if path.suffix.lower() in ARCHIVES or ".tar" in path.suffixes:
        raise ValueError(
            f"corpus: {str(path)!r} is an archive. Accepted: files and folders of text. Unpack it into a folder and "
            "name that."
        )
    return format_of(path) or "text"
