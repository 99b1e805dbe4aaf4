"""From columns with an entry for each token of a batch, one sequence after another, to a batch's tensors.

`lengths`, shape `(batch,)`, says how many tokens each sequence has. Every column has the shape `(tokens, ...)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .batch_layout import joined_row
from .random_keys import Bools, Ints
from .row_columns import as_tensor


def real_positions(lengths: Ints, width: int, side: str = "right") -> Bools:
    """Return which positions of a padded batch contain tokens, shape `(batch, width)`; `side` is where padding goes.

    >>> real_positions(np.array([1, 2]), width=3, side="left").tolist()
    [[False, False, True], [False, True, True]]
    """
    real = np.arange(width) < lengths[:, None]
    return real[:, ::-1] if side == "left" else real


def padded(column: Any, real: Bools, fill: int) -> torch.Tensor:
    """Return a column at its `real_positions`, and `fill` at all others: shape `(batch, width, ...)`.

    >>> padded(np.array([7, 8, 9]), real_positions(np.array([1, 2]), width=3), fill=0).tolist()
    [[7, 0, 0], [8, 9, 0]]
    """
    kind = {"f": np.float32, "b": np.bool_}.get(column.dtype.kind, np.int64)
    found = np.full(real.shape + column.shape[1:], fill, dtype=kind)
    found[real] = column
    return torch.from_numpy(found)


def joined(columns: Mapping[str, Any], attended: Ints, lengths: Ints, first: int = 0) -> dict[str, Any]:
    """Return columns as one row, `(1, tokens, ...)`, without the tokens that are only padding, and what describes it.

    Args:
        columns: by name.
        attended: 0 for a token that is only padding.
        lengths: those of the sequences, before these tokens are left out.
        first: the number of a sequence's first position.

    >>> found = joined({"input_ids": np.array([7, 8, 0, 9])}, np.array([1, 1, 0, 1]), np.array([3, 1]))
    >>> found["input_ids"].tolist(), found["position_ids"].tolist(), len(found["cu_seq_lens_k"])
    ([[7, 8, 9]], [[0, 1, 0]], 3)
    """
    real = attended.astype(np.bool_)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    left = np.bincount(sequence[real], minlength=len(lengths))
    rows = {name: as_tensor(column[real]).unsqueeze(0) for name, column in columns.items()}
    found = rows | joined_row(torch.from_numpy(left), first)
    place = np.flatnonzero(real)  # a token that nothing attends to keeps its position to itself, as if padded
    starts = (np.cumsum(left) - left).repeat(left)  # each token's first neighbour, among those that are left
    if len(place):
        found["position_ids"] += as_tensor(place - place[starts] - (np.arange(len(place)) - starts))
    return found
