"""From a corpus's name to its paragraphs: what is bundled, files of any format, an address, standard input, the hub."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yaml
from datasets import Dataset
from tqdm.auto import tqdm

from ..sources.credentials import without_credentials
from ..sources.download import download, from_standard_input, is_url
from ..sources.hub_datasets import load_splits
from ..sources.names import did_you_mean, looks_like_path
from .files import find_files, is_pattern, name_of, stem
from .tables import choose_column, read_table
from .text_cache import read_once
from .text_files import SAMPLE_BY, read_text

CORPORA = Path(__file__).parent.parent / "bundled/corpora"

#: What reading counts, and how it is said.
COUNTS = {
    "blank_lines_dropped": "blank lines dropped",
    "gutenberg_lines_dropped": "lines of Project Gutenberg's header and footer dropped",
    "rows_without_text": "rows without text dropped",
    "undecodable_replaced": "undecodable bytes replaced",
    "very_long_cut": "paragraphs of more than 100,000 characters cut into parts",
    "files_left_out": "files of other formats left out",
}


def known_corpora() -> dict[str, dict[str, Any]]:
    """Return the sidecar of every corpus that has a name here: the bundled ones and those fetched on demand.

    >>> list(known_corpora())
    ['general-english', 'meditations', 'meditations-long']
    """
    sidecars = sorted(CORPORA.glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sidecars}


def read_paragraphs(
    name: str, how: dict[str, Any], of_the_hub: dict[str, Any] | None = None, sha256: str | None = None
) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """Return what a name stands for: its rows, those that its owner holds out, and the facts."""
    _refuse_what_does_not_apply(name, of_the_hub or {}, sha256)
    held_out: Dataset | None = None
    found = _on_this_disk(name, how, sha256)
    if found is not None:
        where, how, facts = found
        rows, counts = _read_files(where, how)
    else:
        facts = {"name": name, "source": f"hub:{name}"}
        rows, held_out, counts = _read_hub(name, how.get("text_column"), **(of_the_hub or {}))
    facts |= {key: counts.get(key, 0) for key in COUNTS} | {"fingerprint": counts["fingerprint"]}
    facts |= {key: counts[key] for key in counts if key.startswith(("files_read_by_", "text_column: "))}
    return rows, held_out, facts


def _on_this_disk(
    name: str, how: dict[str, Any], sha256: str | None
) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """Return the file, folder or pattern that a name means, how it is read, and the first facts; None: the hub's.

    What lies at an address or comes from standard input is on this disk afterwards.
    """
    sidecar = known_corpora().get(name)
    if sidecar is not None:
        file = download(sidecar["url"], sidecar["sha256"]) if "url" in sidecar else CORPORA / sidecar["file"]
        facts = {"name": name, "source": sidecar.get("url", "bundled"), "licence": sidecar["licence"]}
        return str(file), {"sample_by": "line"}, facts
    if is_url(name):
        facts = {"name": stem(Path(urlsplit(name).path)) or "text", "source": without_credentials(name)}
        return str(download(name, sha256)), how, facts
    if name == "-":
        file = from_standard_input()
        return str(file), how, {"name": "stdin", "source": str(file)}
    if Path(name).expanduser().exists() or is_pattern(name):
        return name, how, {"name": name_of(name), "source": name}
    return None


def _read_files(name: str, how: dict[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """Read the files that a name means, or find what was read of them before."""
    _check(**how)
    files, left_out = find_files(name)
    stats = [(file, file.stat()) for file, _ in files if file.is_file()]
    key = [
        [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats],
        [format for _, format in files],
        how,
    ]

    def read(counts: Counter[str]) -> Iterator[str]:
        with _bar(sum(stat.st_size for _, stat in stats)) as bar:
            for file, format in files:
                begun = bar.n

                def position(done: int, begun: int = begun) -> None:
                    bar.update(begun + done - bar.n)

                yield from _texts_in(file, format, how, counts, position=position)

    rows, counts = read_once(key, read)
    if not len(rows):
        raise ValueError(
            f"corpus: {name!r} holds no text ({counts.get('blank_lines_dropped', 0)} blank lines). Accepted: text "
            "with at least two different paragraphs. Check that the file is the one you meant."
        )
    return rows, counts | {"files_left_out": left_out}


def _texts_in(
    file: Path,
    format: str,
    how: dict[str, Any],
    counts: Counter[str],
    position: Callable[[int], Any] = lambda _: None,
) -> Iterator[str]:
    if format in ("text", "markdown"):
        return read_text(file, counts, position=position, **{key: how[key] for key in how if key != "text_column"})
    return read_table(file, format, counts, position=position, **{key: how[key] for key in how if key != "sample_by"})


def _texts_in_all(files: list[tuple[Path, str]], how: dict[str, Any]) -> Iterator[str]:
    for file, format in files:
        yield from _texts_in(file, format, how, Counter())


def stream_paragraphs(
    name: str,
    how: dict[str, Any],
    sha256: str | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> tuple[Callable[[], Iterator[str]], dict[str, Any]]:
    """Return a function that opens what a name stands for anew and yields its paragraphs, and the facts.

    Nothing is read before that, and nothing is kept. The facts are name, source, `streamed`, and where it is known the
    licence: what is only known at its end is not among them.

    The other arguments are those of `mlm_recipes.load_corpus`. What is on the hub is read over the network.

    Raises: ValueError for standard input or files that cannot be read; FileNotFoundError for a missing file.

    >>> read, facts = stream_paragraphs("general-english", {})
    >>> sum(1 for paragraph in read()), facts["streamed"]
    (60, True)
    """
    _refuse_what_does_not_apply(name, {"config": config, "split": split, "revision": revision}, sha256)
    found = _on_this_disk(name, how, sha256) if name != "-" else None
    if found is not None:
        where, how, facts = found
        _check(**how)
        files, _ = find_files(where)
        in_all = functools.partial(_texts_in_all, files, how)
        return in_all, facts | {"streamed": True}
    if name.count("/") == 1 and not looks_like_path(name):
        facts = {"name": name, "source": f"hub:{name}", "streamed": True}
        return _hub_stream(name, how.get("text_column"), config, split, revision), facts
    error = FileNotFoundError if looks_like_path(name) else ValueError
    raise error(
        f"corpus: {name!r} cannot be streamed: there is no such file or folder (looked in {Path.cwd()}). Accepted "
        "with streaming: a known corpus, a file, a folder, a pattern, an http(s) address or a hub id owner/name. "
        "Check the path, or leave --streaming out for standard input."
    )


def _refuse_what_does_not_apply(name: str, of_the_hub: dict[str, Any], sha256: str | None) -> None:
    here = name == "-" or name in known_corpora() or is_pattern(name) or Path(name).expanduser().exists()
    for option, value in {"sha256": sha256, **of_the_hub}.items():
        applies = is_url(name) if option == "sha256" else not here and not is_url(name)
        if value is not None and not applies:
            what = "an http(s) address" if option == "sha256" else "a data set of the hub"
            raise ValueError(
                f"corpus_{option}: received {value!r} for {name!r}, which is not {what}. Accepted: for such a one. "
                "Leave it out."
            )


def _check(sample_by: str = "auto", encoding: str = "utf-8", encoding_errors: str = "strict", **_: Any) -> None:
    if sample_by not in SAMPLE_BY:
        raise ValueError(f"sample_by: received {sample_by!r}. Accepted: {', '.join(SAMPLE_BY)}.")
    if encoding_errors not in ("strict", "replace"):
        raise ValueError(f"encoding_errors: received {encoding_errors!r}. Accepted: strict or replace.")
    try:
        "".encode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding: received {encoding!r}. Accepted: a name that Python knows, such as utf-8, utf-16, cp1252, "
            "iso-8859-1, gb18030 or shift_jis."
        ) from None


def _bar(total: int) -> Any:
    """Return a bar in bytes, shown on a terminal from the second second on."""
    return tqdm(
        total=total, unit="B", unit_scale=True, desc="Reading", delay=2, leave=False, disable=not sys.stderr.isatty()
    )


def _read_hub(
    name: str,
    text_column: str | None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
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
    splits = load_splits(name, config=config, revision=revision)
    asked = split or "train"
    if asked not in splits:
        raise ValueError(
            f"corpus_split: the hub data set {name!r} has the splits {', '.join(splits)}, not {asked!r}. Accepted: "
            "one of these. Pass --corpus_split with the one to train on."
        )
    rows, counts = _texts_of(cast(Dataset, splits[asked]), name, text_column)
    held_out = None
    if asked == "train" and "validation" in splits:
        held_out, _ = _texts_of(cast(Dataset, splits["validation"]), name, text_column)
    return rows, held_out, counts


def _texts_of(rows: Dataset, name: str, text_column: str | None) -> tuple[Dataset, dict[str, Any]]:
    column = choose_column(rows.select(range(min(len(rows), 200))), text_column, name)
    kind = rows.features[column]
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"text_column: the column {column!r} of {name!r} holds {kind}. Accepted: a column of strings. "
            "Pass --text_column with the one that holds the text."
        )

    def read(counts: Counter[str]) -> Iterator[str]:
        counts[f"text_column: {column}"] += 1
        return _column_of(rows, column, counts)

    return read_once([rows._fingerprint, column], read)


def _column_of(rows: Any, column: str, counts: Counter[str]) -> Iterator[str]:
    for batch in rows.select_columns([column]).iter(batch_size=1000):
        for text in batch[column]:
            if isinstance(text, str) and text.strip():
                yield text
            elif text is None or isinstance(text, str):
                counts["rows_without_text"] += 1
            else:
                raise ValueError(
                    f"text_column: the column {column!r} holds {type(text).__name__} ({str(text)[:40]!r}). Accepted: a "
                    "column of strings. Pass --text_column with the one that holds the text."
                )


def _hub_stream(
    name: str, text_column: str | None, config: str | None, split: str | None, revision: str | None
) -> Callable[[], Iterator[str]]:
    """Return a function that reads a hub data set's texts over the network, a batch at a time."""

    @functools.cache  # asked once, and in the process that reads
    def opened() -> tuple[Any, str]:
        asked = split or "train"
        rows: Any = load_splits(name, config=config, split=asked, revision=revision, streaming=True)[asked]
        return rows, choose_column(rows.take(200), text_column, name)

    return lambda: _column_of(*opened(), Counter())


def _accepted() -> str:
    return (
        f"a known corpus ({', '.join(known_corpora())}), a file or folder of text, a pattern, an http(s) address, - "
        "for standard input, or a hub id owner/name"
    )
