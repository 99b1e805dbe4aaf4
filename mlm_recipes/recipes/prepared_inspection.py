"""`inspect` of a prepared corpus: what its index says, and whether its shards are what was written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..data.prepared_corpus import local_folder
from ..data.prepared_index import PreparedIndex, read_index
from ..report.wording import count
from ..sources.credentials import without_credentials


@dataclass(frozen=True)
class PreparedInspection:
    """A prepared corpus: its name, its index, and the shards whose sha256 is another one; `print` shows it."""

    corpus: str
    index: PreparedIndex
    damaged: list[str]

    @property
    def ok(self) -> bool:
        """Tell whether no shard is damaged."""
        return not self.damaged

    def __str__(self) -> str:
        index, plan = self.index, self.index.plan
        rules = ", ".join(f"{name} {str(value).lower()}" for name, value in plan["rows"].items())
        total = {name: index.total(name) for name in ("paragraphs", "words", "rows", "tokens")}
        said = [
            f"{without_credentials(self.corpus)}: a prepared corpus, of {plan['corpus']['source']}.",
            f"To train on: {', '.join(count(number, name[:-1]) for name, number in total.items())}; "
            f"the longest row has {count(index.longest, 'token')}.",
            f"Held out: {count(plan['held_out']['paragraphs'], 'paragraph')}.",
            f"Made by the tokenizer of {plan['tokenizer']['model']} ({plan['tokenizer']['tokens']:,} tokens): {rules}.",
        ]
        if lost := index.total("cut_off_tokens"):
            said.append(f"Cut off: {count(lost, 'token')} of {count(index.total('cut_off_paragraphs'), 'paragraph')}.")
        if split := index.total("split_paragraphs"):
            said.append(f"Split into several rows: {count(split, 'paragraph')}.")
        shards = count(len(index.shards), "shard")
        if self.ok:
            said.append(f"{shards}, each with the sha256 that the index has (fingerprint {index.fingerprint}).")
        else:
            said.append(
                f"Damaged, of {shards}: {', '.join(self.damaged)}. Remove these files and index.json, and run the same "
                "`mlm-recipes prepare` again, or copy them again."
            )
        return "\n".join(said)


def inspect_prepared(corpus: str) -> PreparedInspection:
    """Return what the index of a prepared corpus says, after reading all of its shards.

    Raises: ValueError for one that is not complete, or cannot be fetched.
    """
    folder = local_folder(corpus)
    index = read_index(folder)
    damaged = [shard["file"] for shard in index.shards if _sha256(folder / shard["file"]) != shard["sha256"]]
    return PreparedInspection(corpus, index, damaged)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
