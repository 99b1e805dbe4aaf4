"""What a corpus's name stands for, decided once: `resolve` returns a `TextSource`, and all reading starts from that."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from ..metrics_file import TextOrigin
from ..sources.credentials import without_credentials
from ..sources.download import download, from_standard_input, is_url
from ..sources.names import did_you_mean, looks_like_path
from .file_formats import find_files, name_of, path_kind, stem
from .text_files import SAMPLE_BY

logger = logging.getLogger(__name__)

CORPORA = Path(__file__).parent.parent / "bundled/corpora"

#: `known`: one of `known_corpora()`. An address is http or https.
Kind = Literal["known", "file", "folder", "pattern", "address", "standard input", "hub"]


def known_corpora() -> dict[str, dict[str, Any]]:
    """Return the metadata of every corpus that has a name here: the bundled ones and those downloaded on demand.

    >>> list(known_corpora())
    ['general-english', 'meditations', 'meditations-long']
    """
    sidecars = sorted(CORPORA.glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sidecars}


@dataclass(frozen=True)
class Reading:
    """How a text is read.

    Args:
        text_column: the column of a table that holds the text; by default `text`, or the one with the longest strings.
        sample_by: what a paragraph of a text file is: `line`, `paragraph`, `document` or `auto`.
        encoding: a codec of Python's.
        encoding_errors: `strict` or `replace`.

    Raises: ValueError for an unknown value.

    >>> Reading(sample_by="line").encoding
    'utf-8'
    """

    text_column: str | None = None
    sample_by: str = "auto"
    encoding: str = "utf-8"
    encoding_errors: str = "strict"

    def __post_init__(self) -> None:
        if self.sample_by not in SAMPLE_BY:
            raise ValueError(f"sample_by: received {self.sample_by!r}. Accepted: {', '.join(SAMPLE_BY)}.")
        if self.encoding_errors not in ("strict", "replace"):
            raise ValueError(f"encoding_errors: received {self.encoding_errors!r}. Accepted: strict or replace.")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding: received {self.encoding!r}. Accepted: a name that Python knows, such as utf-8, utf-16, "
                "cp1252, iso-8859-1, gb18030 or shift_jis."
            ) from None


@dataclass(frozen=True)
class Version:
    """Which version of a text is meant.

    Args:
        config: the configuration of a hub data set; by default its only one, or the one that its card names.
        split: the split of a hub data set to train on; by default `train`.
        revision: a branch, tag or commit of a hub data set; by default `main`.
        sha256: what a file at an http(s) address must have.

    >>> Version(split="test").revision is None
    True
    """

    config: str | None = None
    split: str | None = None
    revision: str | None = None
    sha256: str | None = None


#: Text in UTF-8, read by the rules of `Reading`'s defaults, and whichever version is current.
PLAIN, CURRENT = Reading(), Version()


@dataclass(frozen=True)
class TextSource:
    """What a corpus's name stands for; made by `resolve`.

    Args:
        kind: what it is.
        name: what the corpus is called in reports; of a hub data set its id.
        source: where it comes from, without credentials.
        reading: how it is read.
        version: which version is meant.
        licence: where it is known.
        path: the file, folder or pattern on this disk; for an address and standard input, the copy that was written.
        files: the files that `path` stands for, each with its format; none for the hub.
        files_left_out: how many other files are in the folder or match the pattern.
    """

    kind: Kind
    name: str
    source: str
    reading: Reading = PLAIN
    version: Version = CURRENT
    licence: str | None = None
    path: str = ""
    files: tuple[tuple[Path, str], ...] = ()
    files_left_out: int = 0

    def facts(self) -> TextOrigin:
        """Return what metrics.json says about a text before it is read: name, source and, if known, licence."""
        found: TextOrigin = {"name": self.name, "source": self.source}
        if self.licence is not None:
            found["licence"] = self.licence
        return found


def resolve(
    name: str, reading: Reading = PLAIN, version: Version = CURRENT, *, for_streaming: bool = False
) -> TextSource:
    """Decide what a corpus's name stands for, and find its files.

    A known corpus comes before a file or folder of the same name, and a warning says so. Next come `-` and http(s)
    addresses, then files, folders and patterns, then the hub. A file at an address is downloaded, and standard input is
    written to a file. The hub is not asked.

    Args:
        name: as for `mlm_recipes.load_corpus`.
        reading: how to read the text; a known corpus is always read by line.
        version: which version of the text is meant.
        for_streaming: refuse what cannot be streamed: standard input.

    Raises: FileNotFoundError for a path that does not exist; ValueError for another unknown name, files that cannot be
    read, a download that fails, or a `version` that does not apply to this kind of text.

    >>> source = resolve("meditations")
    >>> source.kind, source.facts()
    ('known', {'name': 'meditations', 'source': 'bundled', 'licence': 'CC0-1.0'})
    """
    kind = _kind_of(name)
    _refuse_version(name, kind, version)
    if kind == "hub":
        return TextSource(kind, name, f"hub:{name}", reading, version)
    licence = None
    if kind == "known":
        sidecar = known_corpora()[name]
        path = str(download(sidecar["url"], sidecar["sha256"]) if "url" in sidecar else CORPORA / sidecar["file"])
        called, source, licence = name, sidecar.get("url", "bundled"), sidecar["licence"]
        reading = Reading(sample_by="line")
        _warn_of_namesake(name)
    elif kind == "address":
        path = str(download(name, version.sha256))
        called, source = stem(Path(urlsplit(name).path)) or "text", without_credentials(name)
    elif kind == "standard input":
        if for_streaming:
            raise ValueError(
                f"corpus: received {name!r}, standard input, with streaming. Accepted with streaming: a known corpus, "
                "a file, a folder, a pattern, an http(s) address or a hub id owner/name. To read from standard input, "
                "leave out --streaming."
            )
        path = source = str(from_standard_input())
        called = "stdin"
    else:
        path = source = name
        called = name_of(name, kind)
    files, left_out = find_files(path, kind if kind in ("folder", "pattern") else "file")
    return TextSource(kind, called, source, reading, version, licence, path, tuple(files), left_out)


def _kind_of(name: str) -> Kind:
    if name in known_corpora():
        return "known"
    if is_url(name):
        return "address"
    if name == "-":
        return "standard input"
    if kind := path_kind(name):
        return kind
    if looks_like_path(name):
        link = " It is a link that leads nowhere." if Path(name).expanduser().is_symlink() else ""
        raise FileNotFoundError(
            f"corpus: there is no file or folder {name!r} (looked in {Path.cwd()}).{link} Accepted: {_accepted()}. "
            "Check the path for a typing error."
        )
    if name.count("/") != 1:
        raise ValueError(
            f"corpus: {name!r} is not a known corpus, nor a file or folder here."
            f"{did_you_mean(name, known_corpora())} Accepted: {_accepted()}. `mlm-recipes corpora` lists the names."
        )
    return "hub"


def _refuse_version(name: str, kind: Kind, version: Version) -> None:
    """Refuse what says which version is meant of another kind of text."""
    for option, value in vars(version).items():
        applies_to: Kind = "address" if option == "sha256" else "hub"
        if value is not None and kind != applies_to:
            what = "an http(s) address" if applies_to == "address" else "a data set of the hub"
            raise ValueError(
                f"corpus_{option}: received {value!r} for {name!r}, which is not {what}. Accepted: a value only if "
                f"--corpus is {what}. Leave out --corpus_{option}."
            )


def _warn_of_namesake(name: str) -> None:
    """Say which of the two was taken where a file or folder has the name of a known corpus."""
    if kind := path_kind(name):
        logger.warning(
            "corpus: %r is the known corpus, not the %s of that name in %s. To read the %s, name it ./%s",
            *(name, kind, Path.cwd(), kind, name),
        )


def _accepted() -> str:
    return (
        f"a known corpus ({', '.join(known_corpora())}), a file or folder of text, a pattern, an http(s) address, - "
        "for standard input, or a hub id owner/name"
    )
