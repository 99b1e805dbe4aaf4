"""`TokenResults`: the loss and the rank of every masked token, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..data.columns import list_lengths
from ..masking.batch_layout import labelled, places_of
from ..masking.collator import DataCollatorForMaskedLM
from ..masking.random_keys import Bools, Floats, Ints
from ..model.rows_of_one_length import row_multiple
from .forward_passes import evaluate_batches, with_bar


@dataclass(frozen=True)
class TokenResults:
    """Five arrays of shape `(tokens,)`, with one entry for each masked token, in the order of the text.

    Attributes:
        row: the index of the evaluated row.
        position: the token's position in the row, including special tokens.
        token: the true token's id.
        nats: the model's cross-entropy.
        rank: the number of tokens that the model ranks before the true one; 0 if that is its first choice.
    """

    row: Ints
    position: Ints
    token: Ints
    nats: Floats
    rank: Ints

    @classmethod
    def of(cls, columns: Iterable[Floats]) -> TokenResults:
        """Join arrays of shape `(tokens, 5)`, such as those of all processes, and sort by row and position."""
        whole = np.concatenate([*columns, np.empty((0, 5))])
        row, position, token, nats, rank = whole[np.lexsort((whole[:, 1], whole[:, 0]))].T
        row, position, token, rank = np.stack([row, position, token, rank]).astype(np.int64)
        return cls(row, position, token, nats.copy(), rank)

    @classmethod
    def joined(cls, several: Sequence[TokenResults]) -> TokenResults:
        """Return the results of several draws, one after the other."""
        return cls(*(np.concatenate([getattr(each, item.name) for each in several]) for item in fields(cls)))

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: Bools | Ints) -> TokenResults:
        """Return the chosen entries only."""
        return TokenResults(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def sums(self, groups: Ints, count: int) -> Floats:
        """Return each group's nats, correct first choices, tokens among the first five choices, and tokens.

        `groups` contains each entry's group, from 0 to `count - 1`, shape `(tokens,)`. The result has shape
        `(count, 4)`.

        >>> two = TokenResults.of([np.array([[0, 1, 7, 2.5, 0], [1, 3, 9, 4.0, 8]])])
        >>> two.sums(two.row, 2).tolist()
        [[2.5, 1.0, 1.0, 1.0], [4.0, 0.0, 0.0, 1.0]]
        """
        columns = (self.nats, self.rank == 0, self.rank < 5, np.ones(len(self)))
        return np.stack([np.bincount(groups, weights=column, minlength=count) for column in columns], axis=1)


def evaluate_tokens(
    model: Any,
    rows: Any,
    collator: DataCollatorForMaskedLM,
    batch_size: int = 16,
    sparse: bool = False,
    process: int = 0,
    processes: int = 1,
    bar: bool = True,
) -> Floats:
    """Evaluate this process's share of `rows`: an array of shape `(tokens, 5)` for `TokenResults.of`.

    Args:
        model: it keeps its mode (training or evaluation).
        rows: a data set, or a list of mappings.
        collator: a collator with frozen masks.
        batch_size: the number of rows in a forward pass.
        sparse: compute the head at masked positions only.
        process, processes: the index of this process, and the number of all. Each makes the same number of forward
            passes, on a row without a masked token if it has no more rows, since a model that is sharded over the
            processes needs all of them.
        bar: show a progress bar on a terminal.
    """
    if row_multiple(model) == 1:  # otherwise its results depend on how far a row is padded
        collator = collator.changed(padding="longest", pad_to_multiple_of=None)
    lengths = list_lengths(rows, "input_ids") if isinstance(rows, Dataset) else [len(row["input_ids"]) for row in rows]
    order = np.argsort(lengths, kind="stable")  # rows of similar length together, for less padding
    batches = [order[first : first + batch_size].tolist() for first in range(0, len(order), batch_size)]
    passes = -(-len(batches) // processes)
    mine = [batches[i] if i < len(batches) else [] for i in range(process, passes * processes, processes)]
    collated = (_batch(rows, indices, collator) for indices in with_bar(mine, "Evaluating", "batch", bar))
    found = evaluate_batches(model, collated, _columns, sparse)
    for indices, columns in zip(mine, found, strict=True):
        columns[:, 0] = np.asarray(indices or [0])[columns[:, 0].astype(np.int64)]
    return np.concatenate([*found, np.empty((0, 5))])


def _batch(rows: Any, indices: list[int], collator: DataCollatorForMaskedLM) -> dict[str, Any]:
    """Return the rows with these indices, collated; without indices, a row that belongs to no example."""
    given = rows.__getitems__(indices) if isinstance(rows, Dataset) else [rows[index] for index in indices]
    return collator(given or [None])


def _columns(batch: dict[str, Any], nats: torch.Tensor, ranks: torch.Tensor) -> Floats:
    """Return the columns for `TokenResults.of`, shape `(masked, 5)`; `row` is the example's index in the batch."""
    place, position = places_of(batch)
    tokens = batch["labels"][labelled(batch["labels"])]
    return np.stack([place, position, *(column.cpu().double().numpy() for column in (tokens, nats, ranks))], axis=1)
