"""Counts the tokens that a training run computed, and its padding."""

from __future__ import annotations

from typing import Any

import torch

from ...masking.batch_layout import is_joined, lengths_of
from ...masking.batch_plan import FILLING


class TokenCounter:
    """The counts of one process, kept on the batches' device, so that they never wait for a GPU.

    >>> counter = TokenCounter()
    >>> counter.add({"input_ids": torch.tensor([[7, 8, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])})
    >>> counter.counts().tolist()
    [2, 1]
    """

    def __init__(self) -> None:
        self._real: Any = 0
        self._positions = 0

    def add(self, batch: dict[str, Any]) -> None:
        """Count a batch, padded or padding-free."""
        positions = batch["input_ids"].numel()
        self._positions += positions
        self._real = self._real + (positions - batch.get(FILLING, 0) if is_joined(batch) else lengths_of(batch).sum())

    def counts(self) -> torch.Tensor:
        """Return real tokens and padding, int64, shape `(2,)`, on the batches' device."""
        real = torch.as_tensor(self._real, dtype=torch.int64)
        return torch.stack([real, self._positions - real])
