"""Rows of other texts among those that are trained on, so many that they reach a share of the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..masking.random_keys import Ints, order_keys
from ..sources.credentials import without_credentials
from .columns import column, list_lengths
from .rows import with_example_id
from .windows import paragraph_of

#: The ids of the n-th text that is mixed in begin at n times this, so that no two texts draw the same masks.
IDS_OF_A_TEXT = 2**32

#: Columns that a row may lack.
_NOT_NEEDED = {"text", "cut_off"}


@dataclass(frozen=True)
class Part:
    """A text that is mixed in.

    Attributes:
        name: its name in reports.
        share: the share of the training tokens that was asked for.
        first: the place of its first row in `MixedRows.rows`.
        rows: the number of its rows.
        tokens: the number of its tokens, special ones included.
        rows_per_epoch: how many rows of it an epoch has. If it has fewer, an epoch reads some of them several times.
    """

    name: str
    share: float
    first: int
    rows: int
    tokens: int
    rows_per_epoch: int


class MixedRows(Sequence[Any]):
    """The rows of an epoch: those of the text to adapt to, and some of other texts; `mix_rows` makes them.

    Attributes:
        rows: all rows of all texts, one text after the other.
        own: the number of rows at the beginning that are not mixed in: each epoch has all of them.
        own_tokens: the number of their tokens.
        parts: the texts that are mixed in.

    As a sequence, these are as many rows as an epoch has; which of another text's rows an epoch has, `order` decides.
    """

    def __init__(self, rows: Dataset, own: int, own_tokens: int, parts: tuple[Part, ...]) -> None:
        self.rows, self.own, self.own_tokens, self.parts = rows, own, own_tokens, parts

    def __len__(self) -> int:
        return self.own + sum(part.rows_per_epoch for part in self.parts)

    def __getitem__(self, place: Any) -> Any:
        ((_, row),) = self.order(seed=0, shuffled=False)([(0, range(len(self))[place])])
        return self.rows[row]

    def order(self, seed: int, shuffled: bool) -> MixedOrder:
        """Return which row each place of an epoch has; `shuffled`: not in the order of the texts."""
        return MixedOrder(self.own, self.parts, seed, shuffled)

    def share(self, part: Part) -> float:
        """Return the share of an epoch's tokens that a part has on average: as asked for, but for whole rows."""
        tokens = {each.name: each.rows_per_epoch * each.tokens / each.rows for each in self.parts}
        return tokens[part.name] / (self.own_tokens + sum(tokens.values()))

    def few(self, number: int) -> MixedRows:
        """Return the same mixture of the first rows of each text, at most `number` of each."""
        own = min(number, self.own)
        chosen, parts = list(range(own)), list[Part]()
        for part in self.parts:
            rows = range(part.first, part.first + min(number, part.rows))
            tokens = int(list_lengths(self.rows.select(rows), "input_ids").sum())
            rows_per_epoch = max(1, round(part.rows_per_epoch * own / self.own))
            parts.append(Part(part.name, part.share, len(chosen), len(rows), tokens, rows_per_epoch))
            chosen += rows
        own_tokens = int(list_lengths(self.rows.select(range(own)), "input_ids").sum())
        return MixedRows(self.rows.select(chosen), own, own_tokens, tuple(parts))


class MixedOrder:
    """Which row each place of an epoch has: a function of the seed, the epoch and the place.

    The places of an epoch are first those of the text's own rows, then those of each part. In epoch e, a part with m
    rows per epoch takes those from e * m on of an endless sequence: the part's rows again and again, each time in
    another order. So none is read a second time before all others were read, and epochs continue where the last one
    ended.

    If not `shuffled`, texts are read from top to bottom, and the places of each are spread evenly over the epoch.

    Called with pairs of an epoch and a place, it returns pairs of a reading, which takes the epoch's part in the masks,
    and a row's place in `MixedRows.rows`. A row that an epoch has twice is thus masked anew.

    >>> order = MixedOrder(own=2, parts=(Part("b", 0.5, first=2, rows=2, tokens=8, rows_per_epoch=3),), seed=0)
    >>> order([(0, place) for place in range(5)])
    [(0, 0), (0, 1), (0, 3), (0, 2), (1, 3)]
    >>> order([(1, place) for place in range(5)])
    [(1, 0), (1, 1), (1, 2), (2, 2), (2, 3)]
    """

    def __init__(self, own: int, parts: Sequence[Part], seed: int, shuffled: bool = True) -> None:
        self._own, self._parts, self._seed, self._shuffled = own, tuple(parts), seed, shuffled
        self._number = own + sum(part.rows_per_epoch for part in parts)
        self._epoch = -1
        self._mixed: list[tuple[int, int]] = []
        self._spread = None if shuffled else self._evenly().tolist()

    def __len__(self) -> int:
        return self._number

    def __call__(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the reading and the row of each pair of an epoch and a place in it."""
        found = []
        for epoch, place in places:
            if self._spread is not None:
                place = self._spread[place]
            found.append((epoch, place) if place < self._own else self._of_epoch(epoch)[place - self._own])
        return found

    def rows(self, epoch: int) -> Ints:
        """Return the row at each place of an epoch, shape `(places,)`."""
        mixed = np.array([row for _, row in self._of_epoch(epoch)], dtype=np.int64)
        rows = np.concatenate([np.arange(self._own), mixed])
        return rows if self._spread is None else rows[self._spread]

    def _of_epoch(self, epoch: int) -> list[tuple[int, int]]:
        """Return the reading and the row of each mixed place; kept, since an epoch's batches come one by one."""
        if epoch != self._epoch:
            parts = [self._of_part(part, epoch) for part in self._parts]
            self._epoch, self._mixed = epoch, [pair for pairs in parts for pair in pairs]
        return self._mixed

    def _of_part(self, part: Part, epoch: int) -> Iterable[tuple[int, int]]:
        first = epoch * part.rows_per_epoch
        readings, places = np.divmod(np.arange(first, first + part.rows_per_epoch), part.rows)
        rows = places
        if self._shuffled:
            rows = np.empty_like(places)
            numbers = np.arange(part.first, part.first + part.rows)
            for reading in np.unique(readings).tolist():
                here = readings == reading
                order = np.argsort(order_keys(self._seed, reading, IDS_OF_A_TEXT + numbers), kind="stable")
                rows[here] = order[places[here]]
        return zip(readings.tolist(), (part.first + rows).tolist(), strict=True)

    def _evenly(self) -> Ints:
        sizes = [self._own, *(part.rows_per_epoch for part in self._parts)]
        return np.argsort(np.concatenate([(np.arange(size) + 0.5) / size for size in sizes]), kind="stable")


def mix_rows(rows: Dataset, others: Mapping[str, tuple[Dataset, float]]) -> MixedRows:
    """Return rows for MLMTrainer's `train_dataset`: an epoch has all of `rows`, and a share of its tokens from others.

    Args:
        rows: rows of token ids, as from `tokenize`.
        others: by name, other such rows, and the share of an epoch's tokens that they are to have, special tokens
            included. Each share is above 0, and all together are below 1.

    The shares are reached in whole rows, at least one per epoch. The rows of an epoch are shuffled together, so each
    step has these shares on average. `train_sampling_strategy` applies as to other rows.

    Paragraphs that are measured should not be among the others: see `mlm_recipes.data.mixed_text.load_mixed`.

    Raises: ValueError for shares out of range, no rows, or columns that differ.

    >>> rows = Dataset.from_dict({"input_ids": [[101, 7, 102]] * 90})
    >>> mixed = mix_rows(rows, {"notes": (Dataset.from_dict({"input_ids": [[101, 102], [101, 5, 6, 102]]}), 0.1)})
    >>> len(mixed), mixed.parts[0].rows_per_epoch, round(mixed.share(mixed.parts[0]), 3)
    (100, 10, 0.1)
    """
    check_shares({name: share for name, (_, share) in others.items()})
    rows = _numbered("rows", rows)
    wanted = [name for name in rows.column_names if name not in _NOT_NEEDED]
    own_tokens = int(list_lengths(rows, "input_ids").sum())
    rest = 1 - sum(share for _, share in others.values())
    texts, parts, first = [rows.select_columns(wanted)], list[Part](), len(rows)
    for number, (name, (given, share)) in enumerate(others.items(), start=1):
        part = _numbered(name, given)
        if set(part.column_names) - _NOT_NEEDED != set(wanted):
            raise ValueError(
                f"mix: {name!r} has the columns {', '.join(sorted(part.column_names))}, and the rows to mix it into "
                f"have {', '.join(sorted(rows.column_names))}. Accepted: the same columns. Make both with tokenize()."
            )
        ids = column(part, "example_id") + number * IDS_OF_A_TEXT
        part = part.remove_columns("example_id").add_column("example_id", ids).select_columns(wanted)
        texts.append(part if part.features == texts[0].features else part.cast(texts[0].features))
        tokens = int(list_lengths(part, "input_ids").sum())
        rows_per_epoch = max(1, round(share / rest * own_tokens / (tokens / len(part))))
        parts.append(Part(name, share, first, len(part), tokens, rows_per_epoch))
        first += len(part)
    return MixedRows(concatenate_datasets(texts), len(rows), own_tokens, tuple(parts))


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise ValueError if there is no share, one is not above 0 and below 1, or all together are not below 1.

    >>> check_shares({"general": 0.1, "notes.txt": 0.2})
    """
    such = "Such as general=0.1, a tenth."
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(
                f"mix: received {share:g} for {without_credentials(name)!r}. Accepted: a share of the training tokens, "
                f"above 0 and below 1. {such}"
            )
    if not 0 < sum(shares.values()) < 1:
        said = " + ".join(f"{share:g}" for share in shares.values()) or "no text"
        raise ValueError(
            f"mix: received {said}. Accepted: shares of the training tokens that are together below 1, since the rest "
            f"is the corpus. {such}"
        )


def _numbered(name: str, rows: Any) -> Dataset:
    """Return rows with ids that leave room for those of the other texts; raise ValueError for anything else."""
    if not isinstance(rows, Dataset) or not len(rows) or "input_ids" not in rows.column_names:
        found = type(rows).__name__
        if isinstance(rows, Dataset):
            found = f"{len(rows)} rows with {', '.join(rows.column_names) or 'no column'}"
        raise ValueError(
            f"mix: received {found} as {name!r}. Accepted: a datasets.Dataset with rows of input_ids. Make it of a "
            "text with tokenize()."
        )
    rows = with_example_id(rows)
    highest = int(paragraph_of(column(rows, "example_id")).max())
    if highest >= IDS_OF_A_TEXT:
        raise ValueError(
            f"example_id: received {highest} in {name!r}. Accepted: at most {IDS_OF_A_TEXT - 1}, since the texts that "
            "are mixed have different ids. Leave out the column: rows are then numbered."
        )
    return rows
