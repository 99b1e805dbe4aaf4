"""From a corpus's name to paragraphs: `load_corpus`."""

from __future__ import annotations

import glob
import hashlib
import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml
from datasets import Dataset, DatasetDict, DownloadConfig, DownloadManager, load_dataset

from .masking import Ints, sequence_keys
from .sources import STRUCTURED, did_you_mean, hub_has, looks_like_path

logger = logging.getLogger(__name__)

CORPORA = Path(__file__).parent / "corpora"


class Corpus(DatasetDict):
    """A `DatasetDict` with `train` and `validation`, each with the columns `text` and `example_id`, and its `facts`.

    `facts` is plain data for metrics.json: name, source, licence, paragraphs, words, blank_lines_dropped, duplicates,
    dropped_as_duplicate_of_validation, train and validation (in paragraphs), and a fingerprint of all text; with a
    `validation_corpus` its name, source and blank_lines_dropped too.
    """

    facts: dict[str, Any]


def known_corpora() -> dict[str, dict[str, Any]]:
    """Return the sidecar of every corpus that has a name here: the bundled ones and those fetched on demand.

    >>> list(known_corpora())
    ['general-english', 'meditations', 'meditations-long']
    """
    sidecars = sorted(CORPORA.glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sidecars}


def load_corpus(
    corpus: str | Path,
    *,
    text_column: str = "text",
    validation_fraction: float = 0.1,
    validation_corpus: str | Path | None = None,
    seed: int = 0,
) -> Corpus:
    """Load paragraphs and hold some out, before anything else touches them.

    Args:
        corpus: a name from `known_corpora()`; a UTF-8 text file, one paragraph a line; a folder of `.txt` files;
            or the id of a data set on the hub, `owner/name`.
        text_column: the column of a hub data set that holds the text.
        validation_fraction: share of the distinct paragraphs to hold out, in (0, 1); at least one is held out. A hub
            data set with a `validation` split keeps its own.
        validation_corpus: a text to hold out whole instead, named as `corpus` is (of a hub data set, its `validation`
            split or else `train`); what it has in common with `corpus` is not trained on.
        seed: which ones. A paragraph's place depends on its text and the seed alone, not on the order of the file.

    Blank lines are dropped and counted. Paragraphs that are equal but for case and white space stay on one side of
    the split. `example_id` is the paragraph's number among those kept, from 0.

    Raises: ValueError with what was received and what would be accepted; FileNotFoundError for a missing file.

    >>> corpus = load_corpus("meditations")
    >>> corpus["train"].num_rows, corpus["validation"].num_rows, corpus["train"].column_names
    (486, 54, ['text', 'example_id'])
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction: received {validation_fraction}. Accepted: a number above 0 and below 1, such as 0.1."
        )
    name = str(corpus)
    rows, held_out, facts = _read(name, text_column)
    if validation_corpus is not None:
        whole, its_held_out, its_facts = _read(str(validation_corpus), text_column)
        held_out = its_held_out or whole
        facts["validation_corpus"] = {key: its_facts[key] for key in ("name", "source", "blank_lines_dropped")}
    result = _with_held_out(rows, held_out) if held_out else _split(rows, validation_fraction, seed, name)
    result.facts = facts | _count(result, dropped=len(rows) + len(held_out or []))
    return result


def load_paragraphs(corpus: str | Path, *, text_column: str = "text") -> Dataset:
    """Load a text whole: its paragraphs in order, with `text` and `example_id`; named as for `load_corpus`.

    >>> len(load_paragraphs("general-english"))
    60
    """
    rows, held_out, _ = _read(str(corpus), text_column)
    return _number(held_out or rows)


def _read(name: str, text_column: str) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """Return what a name stands for: its rows, those that its owner holds out, and the facts."""
    held_out: Dataset | None = None
    facts: dict[str, Any] = {"name": name}
    sidecar = known_corpora().get(name)
    path = Path(name).expanduser()
    if sidecar is not None:
        facts |= {"source": sidecar.get("url", "bundled"), "licence": sidecar["licence"]}
        file = _fetch(sidecar["url"], sidecar["sha256"]) if "url" in sidecar else CORPORA / sidecar["file"]
        rows, facts["blank_lines_dropped"] = _read_text([file], name)
    elif path.exists():
        facts |= {"name": path.resolve().stem, "source": name}
        rows, facts["blank_lines_dropped"] = _read_text(_text_files(path), name)
    else:
        rows, held_out = _read_hub(name, text_column)
        before = len(rows) + (len(held_out) if held_out else 0)
        rows, held_out = _not_blank(rows), held_out and _not_blank(held_out)
        facts["source"] = f"hub:{name}"
        facts["blank_lines_dropped"] = before - len(rows) - (len(held_out) if held_out else 0)

    if facts["blank_lines_dropped"]:
        logger.info("%s: blank lines dropped: %d", name, facts["blank_lines_dropped"])
    return rows, held_out, facts


def _text_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        if not files:
            raise ValueError(
                f"corpus: the folder {str(path)!r} holds no .txt file. Accepted: a folder with .txt files in it or "
                "below it, one paragraph a line. Name another folder, or a single file."
            )
        return files
    if path.suffix.lower() == ".pdf":
        raise ValueError(
            f"corpus: {str(path)!r} is a PDF. Accepted: UTF-8 text, one paragraph a line (.txt). Take its text out "
            "first, for example with pdftotext, and put each paragraph on a line of its own."
        )
    if path.suffix.lower() in STRUCTURED:
        raise ValueError(
            f"corpus: {str(path)!r} is a {path.suffix} file. Accepted: UTF-8 text, one paragraph a line (.txt). "
            "Write its text column to a .txt file first, one paragraph a line."
        )
    return [path]


def _read_text(files: list[Path], name: str) -> tuple[Dataset, int]:
    """Check every line, so that an error can name it (datasets names none), then read through `datasets`."""
    blank = kept = blocks = 0
    after_blank = True
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"corpus: {file}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at position "
                        f"{error.start + 1} of the line). Accepted: UTF-8 text. "
                        f"Convert it, for example: iconv -f latin1 -t utf-8 {file.name} > utf8.txt"
                    ) from None
                if text.strip():
                    kept, blocks = kept + 1, blocks + after_blank
                else:
                    blank += 1
                after_blank = not text.strip()
    if not kept:
        raise ValueError(
            f"corpus: {name!r} holds no text ({blank} blank lines). Accepted: UTF-8 text with at least two different "
            "paragraphs, one a line. Check that the file is the one you meant."
        )
    if blank and kept >= 3 * blocks:
        logger.warning(
            "%s: blank lines part it into %d blocks of %.1f lines on average; each line is taken for a paragraph of "
            "its own. If its lines are wrapped, join those of a block first: "
            "awk -v RS= '{gsub(/\\n/, \" \"); print}' FILE > joined.txt",
            name,
            blocks,
            kept / blocks,
        )
    # An empty file makes datasets raise; the others have what there is to read.
    filled = [glob.escape(str(file)) for file in files if file.stat().st_size > 0]  # "notes[1].txt" is no pattern
    rows = load_dataset("text", data_files=filled, split="train", encoding="utf-8-sig")
    return _not_blank(rows), blank


def _read_hub(name: str, text_column: str) -> tuple[Dataset, Dataset | None]:
    if looks_like_path(name):
        raise FileNotFoundError(
            f"corpus: there is no file or folder {name!r} (looked in {Path.cwd()}). Accepted: {_accepted()}. "
            "Check the path for a typing error."
        )
    if name.count("/") != 1:
        raise ValueError(
            f"corpus: {name!r} is not a known corpus, nor a file or folder here."
            f"{did_you_mean(name, known_corpora())} Accepted: {_accepted()}. `mlm-recipes corpora` lists the names."
        )
    splits = _load_from_hub(name)
    if "train" not in splits:
        raise ValueError(
            f"corpus: the hub data set {name!r} has the splits {', '.join(splits)}. Accepted: one with a `train` "
            "split. Save the split you want as a text file and name that."
        )
    columns = splits["train"].column_names
    if text_column not in columns:
        raise ValueError(
            f"text_column: {name!r} has no column {text_column!r}. Accepted: one of {', '.join(columns)}. "
            "Pass --text_column with the one that holds the text."
        )
    kind = splits["train"].features[text_column]
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"text_column: the column {text_column!r} of {name!r} holds {kind}. Accepted: a column of strings. "
            "Pass --text_column with the one that holds the text."
        )
    chosen = {
        split: rows.select_columns([text_column]).rename_column(text_column, "text")
        if text_column != "text"
        else rows.select_columns(["text"])
        for split, rows in splits.items()
        if split in ("train", "validation")
    }
    return chosen["train"], chosen.get("validation")


def _load_from_hub(name: str) -> DatasetDict:
    found = hub_has(name, "dataset")
    if found is False:
        raise ValueError(
            f"corpus: {name!r} is neither a path here nor a data set on the hub."
            f"{did_you_mean(name, known_corpora())} Accepted: {_accepted()}. Check the name; a private data set needs "
            "`hf auth login`."
        )
    if found is None and not datasets.config.HF_HUB_OFFLINE:
        raise ValueError(_unreachable(name))
    try:
        return load_dataset(name)  # offline, from what datasets has cached
    except ConnectionError as error:
        raise ValueError(_unreachable(name)) from error
    except ValueError as error:
        raise ValueError(
            f"corpus: the hub data set {name!r} cannot be loaded by its name alone ({str(error).splitlines()[0]}) "
            "Accepted: one with a single configuration. Save the part you want as a text file and name that."
        ) from error


def _unreachable(name: str) -> str:
    return (
        f"corpus: {name!r} is not a path here, and the hub cannot be reached to look for a data set of that name. "
        f"Accepted: {_accepted()}. Without a network use a text file, a folder, or the bundled `meditations`; "
        "HF_HUB_OFFLINE=1 uses a data set that was fetched before."
    )


def _accepted() -> str:
    return f"a known corpus ({', '.join(known_corpora())}), a text file, a folder of .txt files, or a hub id owner/name"


def _fetch(url: str, sha256: str) -> Path:
    """Download `url` through datasets, which caches it, and check it before anyone reads it."""
    try:
        file = Path(str(DownloadManager(download_config=DownloadConfig(max_retries=2)).download(url)))
    except OSError as error:
        raise ValueError(
            f"corpus: {url} cannot be reached. Accepted: a network that reaches it, or a copy "
            "of the file: name its path instead. Without a network use the bundled `meditations`."
        ) from error
    received = hashlib.sha256(file.read_bytes()).hexdigest()
    if received != sha256:
        file.unlink()  # the next try fetches it again
        raise ValueError(
            f"corpus: {url} was fetched, but its sha256 is {received}. Accepted: {sha256}. The file was discarded: "
            "run again, and if this repeats, the text at that address has changed."
        )
    return file


def _not_blank(rows: Dataset) -> Dataset:
    return rows.filter(lambda batch: [bool(text and text.strip()) for text in batch["text"]], batched=True)


def _number(rows: Dataset, first: int = 0) -> Dataset:
    return rows.add_column("example_id", list(range(first, first + len(rows))))


def _digests(rows: Dataset) -> Ints:
    """Return one hash per row, int64; rows that are equal but for case and white space share theirs."""
    found = [_digest(text) for batch in rows.iter(batch_size=1000) for text in batch["text"]]
    return np.frombuffer(b"".join(found), dtype=np.int64)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.casefold().split()).encode("utf-8"), digest_size=8).digest()


def _split(rows: Dataset, fraction: float, seed: int, name: str) -> Corpus:
    # The distinct paragraphs are ranked by a keyed hash and the first ones held out: exact in number, blind to the
    # order of the file, and a paragraph added to the corpus moves hardly any other across.
    ranks = sequence_keys(seed, 0, _digests(rows))
    ranked = np.unique(ranks)
    if len(ranked) < 2:
        raise ValueError(
            f"corpus: {name!r} has {len(ranked)} different paragraph, too few to hold one out. Accepted: at least two, "
            "better a hundred, one a line. Put each paragraph on a line of its own."
        )
    held_out = ranks < ranked[min(max(1, round(fraction * len(ranked))), len(ranked) - 1)]
    rows = _number(rows)
    return Corpus(train=rows.select(np.flatnonzero(~held_out)), validation=rows.select(np.flatnonzero(held_out)))


def _with_held_out(rows: Dataset, held_out: Dataset) -> Corpus:
    kept = rows.select(np.flatnonzero(~np.isin(_digests(rows), _digests(held_out))))
    if not len(kept):
        raise ValueError(
            "corpus: every paragraph is also in the text that is held out, so there is nothing to train on. "
            "Accepted: texts that differ. Name another validation_corpus, or save a hub data set's `train` split as a "
            "text file and name that: it is then split anew."
        )
    logger.info("A text of its own is held out; validation_fraction does not apply.")
    return Corpus(train=_number(kept), validation=_number(held_out, first=len(kept)))


def _count(corpus: Corpus, dropped: int) -> dict[str, Any]:
    digest, words = hashlib.sha256(), 0
    for split in ("train", "validation"):
        for text in corpus[split]["text"]:
            digest.update(text.encode("utf-8") + b"\n")
            words += len(text.split())
    paragraphs = len(corpus["train"]) + len(corpus["validation"])
    return {
        "paragraphs": paragraphs,
        "words": words,
        "duplicates": paragraphs - len(np.unique(np.concatenate([_digests(corpus[split]) for split in corpus]))),
        "dropped_as_duplicate_of_validation": dropped - paragraphs,
        "train": len(corpus["train"]),
        "validation": len(corpus["validation"]),
        "fingerprint": digest.hexdigest(),
    }
