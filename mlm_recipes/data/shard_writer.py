"""Writes a share of a prepared corpus: shard after shard, each complete or not there."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..masking.random_keys import Ints
from .prepared_files import as_lines, shard_stem, share_stem, write_text
from .prepared_index import whole_shards
from .prepared_plan import Plan, Shard
from .streams import HeldOut
from .text_to_ids import Encoder
from .windows import window_of

#: How many paragraphs are tokenized together; packed, how many are joined, as `mlm_recipes.data.rows.pack` does.
_TOGETHER, _JOINED = 1_000, 10_000

#: About how many characters of text are in memory at a time.
_IN_MEMORY = 20_000_000

#: The rows of a record batch, in which `datasets` looks for a row.
_BATCH = 1_000


@dataclass(frozen=True)
class ShareWriter:
    """Writes a share's rows of token ids into a folder, in Arrow's format as `datasets` maps it into memory.

    Args:
        folder: the folder.
        plan: the plan of the corpus.
        share: the share's number, from 1.
        encoder: makes rows of texts.
        held_out: which paragraphs are not trained on.

    A row's `example_id` is the number of its paragraph in its share, or of the row itself if packed, times the number
    of shares, plus the share's number from 0: no two shares have the same, and none has to know of another's.
    """

    folder: Path
    plan: Plan
    share: int
    encoder: Encoder
    held_out: HeldOut

    def write(self, paragraphs: Iterator[str], progress: Callable[[Shard, bool], Any]) -> list[Shard]:
        """Write the shards that are not there yet, and return all shards of the share.

        `paragraphs` are those of the share. `progress` is called with each shard, and whether it was there before.

        Whoever calls this makes sure that no other process writes the same share at the same time.
        """
        self._clear()
        done = whole_shards(self.folder, self.plan, self.share)
        for there in done:
            progress(there, True)
        passed = done[-1]["read"] if done else 0
        if sum(1 for _ in itertools.islice(paragraphs, passed)) < passed:
            raise ValueError(
                f"corpus: it ends before its paragraph {passed:,}, up to which it was prepared before. Accepted: the "
                "text with which the folder was begun. Restore it, or name a new folder with --out."
            )
        while (shard := self._shard(paragraphs, done)) is not None:
            done.append(shard)
            progress(shard, False)
        end = {"shards": len(done), "share": self.share, "shares": self.plan["shares"]}
        write_text(self.folder / f"{share_stem(self.share, self.plan['shares'])}.json", as_lines(end))
        return done

    def _shard(self, paragraphs: Iterator[str], before: Sequence[Shard]) -> Shard | None:
        """Write the next shard and return what is in it; None if nothing is left."""
        stem = shard_stem(self.share, self.plan["shares"], len(before) + 1)
        read = before[-1]["read"] if before else 0
        packed, limit = self.plan["rows"]["packing"], self.plan["shard_characters"]
        together = _JOINED if packed else _TOGETHER
        # The numbers that the next paragraph and the next row have in their share.
        next_paragraph, next_row = (sum(shard[name] for shard in before) for name in ("paragraphs", "rows"))
        about = _Contents()
        aside = self.folder / f".making-{stem}.arrow"
        writer: Any = None
        with aside.open("wb") as file:
            sink = _Hashed(file)
            while about.characters < limit and (part := _some(paragraphs, together, limit - about.characters)):
                read += len(part)
                kept = list(itertools.compress(part, ~self.held_out(part)))
                if not kept:
                    continue
                first = next_paragraph + about.paragraphs
                if packed:
                    table = self.encoder.packed(kept)
                    ids = np.arange(next_row + about.rows, next_row + about.rows + len(table))
                    numbered = _with_ids(table, ids * self.plan["shares"] + self.share - 1)
                else:
                    ids = np.arange(first, first + len(kept)) * self.plan["shares"] + self.share - 1
                    numbered = table = self.encoder(kept, ids.tolist())
                about.add(kept, table)
                rows = numbered.drop_columns(["cut_off"])
                if writer is None:
                    writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), rows.schema)
                writer.write_table(rows.combine_chunks(), max_chunksize=_BATCH)
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        if writer is None:
            aside.unlink()
            return None
        shard = about.shard(f"{stem}.arrow", sink.bytes, sink.digest.hexdigest(), read)
        os.replace(aside, self.folder / shard["file"])
        write_text(self.folder / f"{stem}.json", as_lines(shard))  # last: a shard without it is made again
        return shard

    def _clear(self) -> None:
        """Remove what was half written when an earlier process was killed."""
        for path in self.folder.glob(f".making-{share_stem(self.share, self.plan['shares'])}*"):
            path.unlink(missing_ok=True)


def _some(paragraphs: Iterator[str], number: int, characters: int) -> list[str]:
    """Return the next paragraphs: at most so many, and no more once they have so many characters, or 20 million."""
    found: list[str] = []
    length = 0
    for text in itertools.islice(paragraphs, number):
        found.append(text)
        length += len(text)
        if length >= min(characters, _IN_MEMORY):
            break
    return found


def _with_ids(table: pa.Table, ids: Ints) -> pa.Table:
    return table.set_column(table.schema.get_field_index("example_id"), "example_id", pa.array(ids, type=pa.int64()))


class _Contents:
    """Counts what is written into a shard."""

    def __init__(self) -> None:
        self.paragraphs = self.words = self.characters = self.rows = self.tokens = self.longest = 0
        self.cut_off_paragraphs = self.cut_off_tokens = self.split_paragraphs = 0
        self.token_counts = np.zeros(0, dtype=np.int64)

    def add(self, texts: Sequence[str], table: pa.Table) -> None:
        """Count some paragraphs, and their rows as the encoder made them."""
        self.paragraphs += len(texts)
        self.words += sum(len(text.split()) for text in texts)
        self.characters += sum(map(len, texts))
        ids, special = (
            np.asarray(table[name].combine_chunks().flatten()) for name in ("input_ids", "special_tokens_mask")
        )
        lengths = np.asarray(table["input_ids"].combine_chunks().value_lengths())
        cut_off, numbers = (np.asarray(table[name]) for name in ("cut_off", "example_id"))
        self.rows += len(table)
        self.tokens += len(ids)
        self.longest = max(self.longest, int(lengths.max(initial=0)))
        self.cut_off_paragraphs += int((cut_off > 0).sum())
        self.cut_off_tokens += int(cut_off.sum())
        self.split_paragraphs += int((window_of(numbers) == 1).sum())
        # Up to the highest id of all, also a special one: models are asked whether they have it.
        size = max(len(self.token_counts), int(ids.max(initial=-1)) + 1)
        counts = np.bincount(ids[special == 0], minlength=size)
        counts[: len(self.token_counts)] += self.token_counts
        self.token_counts = counts

    def shard(self, file: str, size: int, sha256: str, read: int) -> Shard:
        return {
            "file": file,
            "bytes": size,
            "sha256": sha256,
            "read": read,
            "paragraphs": self.paragraphs,
            "words": self.words,
            "rows": self.rows,
            "tokens": self.tokens,
            "longest": self.longest,
            "cut_off_paragraphs": self.cut_off_paragraphs,
            "cut_off_tokens": self.cut_off_tokens,
            "split_paragraphs": self.split_paragraphs,
            "token_counts": self.token_counts.tolist(),
        }


class _Hashed(io.RawIOBase):
    """A file that counts and hashes what is written to it, so that it need not be read again."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.bytes, self.digest = file, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += self.file.write(data)
        return memoryview(data).nbytes
