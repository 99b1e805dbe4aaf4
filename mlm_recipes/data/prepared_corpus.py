"""Finds a prepared corpus: a folder on this disk, or one elsewhere, of which a copy is kept in the cache."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from ..sources.remote_folder import RemoteFolder, is_elsewhere
from .prepared_files import HELD_OUT, INDEX, PLAN, TOKENIZER, as_lines, is_prepared, write_text
from .prepared_index import index_of


def names_prepared(corpus: str) -> bool:
    """Tell whether a corpus's name is that of a prepared one: a folder that says so, or a folder elsewhere.

    >>> names_prepared("meditations"), names_prepared("s3://texts/shards")
    (False, True)
    """
    return is_elsewhere(corpus) or is_prepared(Path(corpus).expanduser())


def local_folder(corpus: str) -> Path:
    """Return the folder of a prepared corpus on this disk; one elsewhere is copied into the cache of `datasets` first.

    A file that is in the cache is not fetched again. The copy of another index is another folder.

    Raises: ValueError for a corpus that cannot be fetched completely, or is not a prepared one.
    """
    if not is_elsewhere(corpus):
        return Path(corpus).expanduser()
    remote = RemoteFolder(corpus)
    where = f"{remote.said}/{INDEX}"
    try:
        content = json.loads(remote.read(INDEX))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"corpus: {where} is not JSON ({error}). Accepted: what `mlm-recipes prepare` wrote."
        ) from error
    index = index_of(content if isinstance(content, dict) else {}, where)
    copy = Path(datasets.config.HF_DATASETS_CACHE) / "mlm_recipes" / "prepared" / index.fingerprint
    files = {f"{TOKENIZER}/{Path(name).name}": about for name, about in index.plan["tokenizer"]["files"].items()}
    files[HELD_OUT] = index.plan["held_out"]["file"]
    for name, about in files.items():
        remote.copy(name, copy / name, about["bytes"], about["sha256"])
    for shard in index.shards:
        remote.copy(shard["file"], copy / shard["file"], shard["bytes"], shard["sha256"])
    if not (copy / INDEX).exists():
        write_text(copy / PLAN, as_lines(dict(index.plan)))
        write_text(copy / INDEX, index.text())
    return copy
