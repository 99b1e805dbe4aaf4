"""`resolve` decides what a corpus's name refers to; all code that reads a text starts from its `TextSource`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from ..metrics_file import SplitRole, TextOrigin
from ..sources.credentials import without_credentials
from ..sources.download import download, from_standard_input, is_url
from ..sources.names import did_you_mean, looks_like_path
from ..sources.remote_folder import is_elsewhere
from .file_formats import find_files, name_of, path_kind, stem
from .prepared_files import is_prepared
from .split_files import names_of_splits, roles, split_of_saved, splits_in, validation_among
from .text_files import SAMPLE_BY

logger = logging.getLogger(__name__)

CORPORA = Path(__file__).parent.parent / "bundled/corpora"

#: `known`: one of `known_corpora()`. `address`: an http(s) URL.
Kind = Literal["known", "file", "folder", "pattern", "address", "standard input", "hub"]


def known_corpora() -> dict[str, dict[str, Any]]:
    """Return the metadata of all known corpora, by name: the bundled ones and those downloaded on demand.

    >>> list(known_corpora())
    ['general-english', 'meditations', 'meditations-long']
    """
    sidecars = sorted(CORPORA.glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sidecars}


@dataclass(frozen=True)
class Reading:
    """How a text is read.

    Args:
        text_column: the column of a table that contains the text, or a path such as `data.paragraphs.context`; by
            default the column is chosen (`mlm_recipes.data.text_column.choose_column`).
        sample_by: how a text file is divided into paragraphs: `line`, `paragraph`, `document` or `auto`.
        encoding: one of Python's codecs.
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
    """The requested version of a text.

    Args:
        config: the configuration of a hub data set; by default its only one, or its card's default.
        split: the split of a hub data set to train on; by default `train`.
        revision: a branch, tag or commit of a hub data set; by default `main`.
        sha256: the required hash of a file at an http(s) URL.

    >>> Version(split="test").revision is None
    True
    """

    config: str | None = None
    split: str | None = None
    revision: str | None = None
    sha256: str | None = None


#: The defaults: text in UTF-8, read by `Reading`'s default rules, in its current version.
PLAIN, CURRENT = Reading(), Version()


@dataclass(frozen=True)
class TextSource:
    """The text that a corpus's name refers to, as `resolve` returns it.

    Args:
        kind: the kind of source.
        name: the corpus's name in reports; for a hub data set, its id.
        source: where it comes from, without credentials.
        reading: how it is read.
        version: the requested version.
        licence: the text's licence, if known.
        path: the file, folder or pattern on this disk; for a URL and standard input, the local copy.
        files: the files at `path` to train on, each with its format; none for the hub.
        held_out_files: in a folder with splits, the files of `validation`.
        splits: in a folder with splits, what each is used for.
        files_left_out: the number of other files in the folder, or that match the pattern.
    """

    kind: Kind
    name: str
    source: str
    reading: Reading = PLAIN
    version: Version = CURRENT
    licence: str | None = None
    path: str = ""
    files: tuple[tuple[Path, str], ...] = ()
    held_out_files: tuple[tuple[Path, str], ...] = ()
    splits: tuple[tuple[str, SplitRole], ...] = ()
    files_left_out: int = 0

    def facts(self) -> TextOrigin:
        """Return metrics.json's facts about a text before it is read: name, source and, if known, licence."""
        found: TextOrigin = {"name": self.name, "source": self.source}
        if self.licence is not None:
            found["licence"] = self.licence
        return found


def resolve(
    name: str, reading: Reading = PLAIN, version: Version = CURRENT, *, for_streaming: bool = False
) -> TextSource:
    """Decide what a corpus's name refers to, and find its files.

    A known corpus takes precedence over a file or folder of the same name, and a warning is logged. Next come `-` and
    http(s) URLs, then files, folders and patterns, then the hub. A file at a URL is downloaded, and standard input is
    written to a file. The hub is not contacted.

    Args:
        name: as for `mlm_recipes.load_corpus`.
        reading: how to read the text; a known corpus is always read by line.
        version: the requested version of the text.
        for_streaming: refuse standard input, which cannot be streamed.

    Raises: FileNotFoundError for a path that does not exist; ValueError for any other unknown name, files that cannot
    be read, a download that fails, or a `version` that does not apply to this kind of text.

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
                "a file, a folder, a pattern, an http(s) URL or a hub id owner/name. To read from standard input, "
                "leave out --streaming."
            )
        path = source = str(from_standard_input())
        called = "stdin"
    else:
        path = source = name
        called = name_of(name, kind)
    files, left_out = find_files(path, kind if kind in ("folder", "pattern") else "file")
    held_out: list[tuple[Path, str]] = []
    used: dict[str, SplitRole] = {}
    found = splits_in(Path(path).expanduser(), files) if kind == "folder" else {}
    if found:
        trained, validation = _chosen(name, version.split, found)
        files, held_out = found[trained], found[validation] if validation else []
        used = roles(found, trained, validation)
    elif version.split is not None:
        raise _inapplicable("split", version.split, name, "a data set of the hub")
    elif kind == "folder":
        used = split_of_saved(Path(path).expanduser())
    elif kind == "pattern":
        _warn_of_splits(name, files)
    every = (tuple(files), tuple(held_out), tuple(used.items()), left_out)
    return TextSource(kind, called, source, reading, version, licence, path, *every)


def _warn_of_splits(name: str, files: list[tuple[Path, str]]) -> None:
    """Warn if the files that match a pattern are named after splits, which a pattern does not keep apart."""
    found = names_of_splits(file for file, _ in files)
    if "train" in found and len(found) > 1:
        logger.warning(
            "corpus: the files that match %r are named after the splits %s, and are all read as one text. To keep the "
            "splits apart, name their folder.",
            *(name, ", ".join(found)),
        )


def _chosen(name: str, split: str | None, found: Mapping[str, object]) -> tuple[str, str | None]:
    """Return the split to train on, and the one to hold out, if any."""
    trained = split or "train"
    if trained not in found:
        raise ValueError(
            f"corpus_split: {name!r} has the splits {', '.join(found)}, not {trained!r}. Accepted: one of these. Pass "
            "--corpus_split with the one to train on."
        )
    return trained, validation_among(found) if trained == "train" else None


def _kind_of(name: str) -> Kind:
    if name in known_corpora():
        return "known"
    if is_elsewhere(name) or is_prepared(Path(name).expanduser()):
        raise ValueError(
            f"corpus: {without_credentials(name)!r} is a prepared corpus, which contains rows of ids and no text. "
            f"Accepted here: {_accepted()}. Name the text that it was made of; `mlm-recipes train` and `evaluate` take "
            "a prepared corpus."
        )
    if is_url(name):
        return "address"
    if name == "-":
        return "standard input"
    if kind := path_kind(name):
        return kind
    if looks_like_path(name):
        link = " It is a broken link." if Path(name).expanduser().is_symlink() else ""
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
    """Raise ValueError for a value of `version` that does not apply to this kind of text."""
    for option, value in vars(version).items():
        applies_to: Kind = "address" if option == "sha256" else "hub"
        if value is not None and kind != applies_to and not (option == "split" and kind == "folder"):
            what = "an http(s) URL" if applies_to == "address" else "a data set of the hub"
            raise _inapplicable(option, value, name, what)


def _inapplicable(option: str, value: str, name: str, what: str) -> ValueError:
    also = ", or a folder with splits" if option == "split" else ""
    return ValueError(
        f"corpus_{option}: received {value!r} for {name!r}, which is not {what}. Accepted: a value only if "
        f"--corpus is {what}{also}. Leave out --corpus_{option}."
    )


def _warn_of_namesake(name: str) -> None:
    """Warn if a file or folder has the same name as the known corpus, which is used."""
    if kind := path_kind(name):
        logger.warning(
            "corpus: %r is the known corpus, not the %s of that name in %s. To read the %s, name it ./%s",
            *(name, kind, Path.cwd(), kind, name),
        )


def _accepted() -> str:
    return (
        f"a known corpus ({', '.join(known_corpora())}), a file or folder of text, a pattern, an http(s) URL, - for "
        "standard input, or a hub id owner/name"
    )
