"""Caches paragraphs on disk: an Arrow file and its counts, with a key of what was read and how."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

#: Part of each key, so that paragraphs read by an earlier version of this code are not used.
_VERSION = 3

_SCHEMA = pa.schema(
    {
        "text": pa.large_string(),
        "example_id": pa.int64(),
        "digest": pa.int64(),
        "words": pa.int32(),
        "characters": pa.int64(),
    }
)

# The most paragraphs, and characters, that are in memory at a time.
_BATCH, _CHARACTERS = 10_000, 4_000_000


def read_once(key: Any, read: Callable[[Counter[str]], Iterable[str]]) -> tuple[Dataset, dict[str, int]]:
    """Return the paragraphs that `read` yields, and what it counted; from disk, if they were read before.

    Args:
        key: plain data that identifies what is read and how: paths with size and modification time, options.
        read: yields paragraphs and counts what it drops; not called if the key is in the cache.

    The data set is in the cache of `datasets` on disk, not in memory. Its columns are `text`, `example_id` (the row's
    number), `digest` (int64; the same for texts that are equal, ignoring case and white space), `words` and
    `characters`. The counts also have `paragraphs`, `words` and `fingerprint` (sha256 of all text).

    >>> rows, counts = read_once("an example", lambda counts: ["To be", "or  not", "to BE "])
    >>> rows["digest"][0] == rows["digest"][2], counts["words"]
    (True, 6)
    """
    name = hashlib.sha256(json.dumps([_VERSION, key]).encode()).hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "mlm_recipes" / name
    if not (folder / "counts.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix="reading-"))
        try:
            counts = _write(read, aside / "text.arrow")
            (aside / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
            aside.chmod(0o777 & ~_umask())  # a temporary folder is readable only by its owner
            try:
                os.replace(aside, folder)
            except OSError:
                if not (folder / "counts.json").is_file():  # no other process was faster
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    rows = Dataset.from_file(str(folder / "text.arrow"))
    return rows, json.loads((folder / "counts.json").read_text("utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(read: Callable[[Counter[str]], Iterable[str]], path: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    whole, first, words = hashlib.sha256(), 0, 0
    with pa.ipc.new_stream(path, _SCHEMA) as file:
        for texts in _in_batches(read(counts)):
            encoded = "\n".join([*texts, ""]).encode()
            whole.update(encoded)
            split = [text.split() for text in texts]
            numbers = np.fromiter(map(len, split), dtype=np.int32, count=len(split))
            columns = {
                "text": texts,
                "example_id": np.arange(first, first + len(texts)),
                "digest": np.frombuffer(b"".join(map(_digest, split)), dtype=np.int64),
                "words": numbers,
                "characters": np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)),
            }
            file.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            first, words = first + len(texts), words + int(numbers.sum())
    return counts | {"paragraphs": first, "words": words, "fingerprint": whole.hexdigest()}


def digests(texts: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the `digest` of each text.

    >>> a, b, c = digests(["To be", "to  be", "or not to be"])
    >>> bool(a == b), bool(a == c)
    (True, False)
    """
    return np.frombuffer(b"".join(_digest(text.split()) for text in texts), dtype=np.int64)


def _digest(words: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).casefold().encode(), digest_size=8).digest()


def _in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) >= _BATCH or characters >= _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
