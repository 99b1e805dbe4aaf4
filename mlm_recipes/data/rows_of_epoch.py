"""Rows as a training loop takes them: by keys that contain the epoch, with the columns that its collator needs."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset

from .all_ids import ids_of
from .id_limits import IdLimits
from .mixed_rows import MixedOrder
from .shuffled_order import ShuffledOrder


class RowsOfEpoch(torch.utils.data.Dataset[Any]):
    """Rows by the keys of `EpochSampler` (training/batches/example_order.py), each with its `epoch` for the collator.

    The key contains the epoch, because nothing else reaches a data set in the memory of a worker process. A key of -1
    gives None: no example. With `plain`, rows have only the columns of these names. With `limits`, each row is checked
    when it is read. With an `order`, keys are places in its epochs, and it says which of the `rows` is there.

    >>> rows = RowsOfEpoch([{"input_ids": [101, 7, 102], "example_id": 0}, {"input_ids": [101, 102], "example_id": 1}])
    >>> rows[3 * 2 + 1]
    {'input_ids': [101, 102], 'example_id': 1, 'epoch': 3}
    """

    def __init__(
        self,
        rows: Sequence[Any],
        plain: Container[str] | None = None,
        limits: IdLimits | None = None,
        order: MixedOrder | ShuffledOrder | None = None,
    ) -> None:
        self.rows = rows
        self.order = order
        self.plain = plain
        self.limits = limits

    def __len__(self) -> int:
        return len(self.rows if self.order is None else self.order)

    def __getitem__(self, key: int) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Any]:
        """Return the rows of a batch at once, which is much faster for a `datasets.Dataset`."""
        pairs = [divmod(key, len(self)) for key in keys if key >= 0]
        if self.order is not None:
            pairs = self.order(pairs)
        indices = [index for _, index in pairs]
        rows = self.rows.__getitems__(indices) if isinstance(self.rows, Dataset) else [self.rows[i] for i in indices]
        if self.limits is not None:
            for index, row in zip(indices, rows, strict=True):
                ids = ids_of(row, self.limits, index)
                self.limits.check([len(ids)], ids, [index])
        if self.plain is not None:
            return [only_columns(row, self.plain) for row in rows]
        found = iter([{**row, "epoch": epoch} for row, (epoch, _) in zip(rows, pairs, strict=True)])
        return [next(found) if key >= 0 else None for key in keys]


class AllBut(Container[str]):
    """All names but these.

    >>> "text" in AllBut("epoch"), "epoch" in AllBut("epoch")
    (True, False)
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def only_columns(row: Any, names: Container[str]) -> Any:
    """Return a row with only the columns of these names; a list of ids as it is.

    >>> only_columns({"input_ids": [5], "text": "to"}, ["input_ids"]), only_columns([5], [])
    ({'input_ids': [5]}, [5])
    """
    return {name: row[name] for name in row if name in names} if isinstance(row, Mapping) else row
