"""The order of so many rows that no list of them is made: which row is at a place is computed when it is read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..masking.permutation import permuted


class ShuffledOrder:
    """Which row each place of an epoch has: a function of the number of rows, the seed, the epoch and the place.

    Called with pairs of an epoch and a place, it returns pairs of the epoch and the row, as
    `mlm_recipes.data.mixed_rows.MixedOrder` does. Nothing is kept between two calls, so the last places of an epoch
    take as long as the first ones.

    >>> order = ShuffledOrder(5, seed=0)
    >>> order([(0, place) for place in range(5)])
    [(0, 1), (0, 0), (0, 4), (0, 2), (0, 3)]
    >>> order([(0, 4), (1, 0)])
    [(0, 3), (1, 1)]
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows, self._seed = rows, seed

    def __len__(self) -> int:
        return self._rows

    def __call__(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the epoch and the row of each pair of an epoch and a place in it."""
        asked = np.array([*places], dtype=np.int64).reshape(-1, 2)
        rows = np.empty(len(asked), dtype=np.int64)
        for epoch in np.unique(asked[:, 0]).tolist():
            here = asked[:, 0] == epoch
            rows[here] = permuted(asked[here, 1], self._rows, self._seed, epoch)
        return list(zip(asked[:, 0].tolist(), rows.tolist(), strict=True))
