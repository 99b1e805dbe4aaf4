"""What a folder of prepared rows says of itself: the plan that its shards are made by, and what is in them.

A corpus is prepared in shares, one for each process that works on it, and a share is written as shards. Every file gets
its name only when it is complete, so nothing else has to be remembered: what is there is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..masking.random_keys import Ints
from .prepared_files import FORMAT, INDEX, VERSION, as_lines, read_json, shard_stem, share_stem, unreadable
from .prepared_plan import Plan, Shard, plan_in, read_plan, require_entries

#: The numbers of a shard that are added up.
_SUMS = ("paragraphs", "words", "rows", "tokens", "cut_off_paragraphs", "cut_off_tokens", "split_paragraphs")


@dataclass(frozen=True)
class PreparedIndex:
    """The index of a prepared corpus.

    Attributes:
        plan: the plan that its shards were made by.
        shards: its shards, in order.
        token_counts: how often each id occurs, without special tokens, shape `(highest id + 1,)`.
    """

    plan: Plan
    shards: tuple[Shard, ...]
    token_counts: Ints

    def total(self, name: str) -> int:
        """Return a number of all shards together, such as `rows`, `tokens` or `paragraphs`."""
        return sum(int(cast(Any, shard)[name]) for shard in self.shards)

    @property
    def longest(self) -> int:
        """The number of tokens of the longest row."""
        return max((shard["longest"] for shard in self.shards), default=0)

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the rows: a hash of the sha256 and the order of the shards, 16 hexadecimal digits."""
        listed = json.dumps([shard["sha256"] for shard in self.shards])
        return hashlib.blake2b(listed.encode(), digest_size=8).hexdigest()

    def text(self) -> str:
        """Return the contents of index.json."""
        return as_lines(
            {
                "format": FORMAT,
                "version": VERSION,
                "fingerprint": self.fingerprint,
                "plan": self.plan,
                "totals": {name: self.total(name) for name in _SUMS} | {"longest": self.longest},
                "shards": [*self.shards],
                "token_counts": self.token_counts.tolist(),
            }
        )


def whole_shards(folder: Path, plan: Plan, share: int) -> list[Shard]:
    """Return the shards of a share that are complete, up to the first that is not."""
    found: list[Shard] = []
    while True:
        stem = shard_stem(share, plan["shares"], len(found) + 1)
        about, rows = folder / f"{stem}.json", folder / f"{stem}.arrow"
        if not about.exists() or not rows.exists():
            return found
        shard = cast(Shard, read_json(about))
        if rows.stat().st_size != shard["bytes"]:
            return found
        found.append(shard)


def unfinished_shares(folder: Path, plan: Plan) -> list[int]:
    """Return the numbers of the shares that are not complete."""
    return [share for share in range(1, plan["shares"] + 1) if not share_is_whole(folder, plan, share)]


def share_is_whole(folder: Path, plan: Plan, share: int) -> bool:
    """Tell whether a share was read to its end, and all its shards are complete."""
    end = folder / f"{share_stem(share, plan['shares'])}.json"
    return end.exists() and len(whole_shards(folder, plan, share)) == read_json(end)["shards"]


def read_index(folder: Path) -> PreparedIndex:
    """Return the index of a prepared corpus: from index.json, or put together from its shards.

    Raises: ValueError for a corpus that is not completely prepared, for shards of another size than when they were
    written, and for an index of another version.
    """
    if not (folder / INDEX).exists():
        plan = read_plan(folder)
        assert plan is not None, folder
        if missing := unfinished_shares(folder, plan):
            said = ", ".join(f"{share}/{plan['shares']}" for share in missing[:8])
            raise ValueError(
                f"corpus: {str(folder)!r} is not completely prepared: of its {plan['shares']} shares, {len(missing)} "
                f"are missing or not finished ({said}{', ...' if len(missing) > 8 else ''}). Accepted: all shares. Run "
                "the same `mlm-recipes prepare` again, for each of them with its --shard; what is done is kept."
            )
        return joined(folder, plan)
    index = index_of(read_json(folder / INDEX), folder / INDEX)
    for shard in index.shards:
        there = (folder / shard["file"]).stat().st_size if (folder / shard["file"]).exists() else None
        if there != shard["bytes"]:
            found = "is missing" if there is None else f"has {there:,} bytes instead of {shard['bytes']:,}"
            raise ValueError(
                f"corpus: {str(folder / shard['file'])!r} {found}. Accepted: all files of the prepared corpus, "
                "unchanged. Copy it again, or remove it and index.json, and run the same `mlm-recipes prepare` again, "
                "which makes only what is missing."
            )
    return index


def joined(folder: Path, plan: Plan) -> PreparedIndex:
    """Return the index of shares that are all complete."""
    shards, counts = list[Shard](), np.zeros(0, dtype=np.int64)
    for share in range(1, plan["shares"] + 1):
        for shard in whole_shards(folder, plan, share):
            found = np.array(shard.pop("token_counts"), dtype=np.int64)
            longer, shorter = sorted((counts, found), key=len, reverse=True)
            longer[: len(shorter)] += shorter
            counts = longer
            shards.append(shard)
    return PreparedIndex(plan, tuple(shards), counts)


def index_of(content: Mapping[str, Any], path: str | Path) -> PreparedIndex:
    """Return the index that a file contains; `path` is its name, for messages.

    Raises: ValueError for another version, and for what is none.
    """
    plan, shards, counts = plan_in(content.get("plan"), path), content.get("shards"), content.get("token_counts")
    if not isinstance(shards, list) or not isinstance(counts, list):
        raise unreadable(path, "it lists no shards")
    for shard in shards:
        require_entries(Shard, shard, path)
        name = shard["file"]  # it decides which file is read or written, and the index may come from elsewhere
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".arrow"):
            raise unreadable(path, f"it lists a shard called {name!r}")
    return PreparedIndex(plan, tuple(shards), np.array(counts, dtype=np.int64))
