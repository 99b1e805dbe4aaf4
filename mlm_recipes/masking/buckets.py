"""Fills a joined batch up to one of few shapes, so that what was recorded for a shape can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .batch_layout import IGNORE_INDEX, is_joined, joined_row, labelled, lengths_of
from .batch_plan import FILLING, POSITIONS

#: Shapes for each doubling of the number of tokens: at most an eighth is filling, on average a sixteenth.
_A_DOUBLING = 8

#: The smallest number of tokens that a shape has.
_LEAST = 256

#: The number of sequences of a shape is a multiple of this.
_SEQUENCES = 4

#: The number of masked positions is a multiple of this part of the tokens: mostly 3/16 of them if 15% are masked.
_MASKED = 16

#: What is filled with something else than the filling's token id.
_FILLED_WITH = {"labels": IGNORE_INDEX, "token_type_ids": 0}


def bucket_tokens(tokens: int) -> int:
    """Return the number of tokens that a batch is filled up to: the next of eight sizes for each doubling.

    >>> [bucket_tokens(tokens) for tokens in (7, 1024, 1025, 1700, 7000)]
    [256, 1024, 1152, 1792, 7168]
    """
    tokens = max(tokens, _LEAST)
    step = 2 ** ((tokens - 1).bit_length() - 1) // _A_DOUBLING
    return -(-tokens // step) * step


def filled_up(
    batch: Mapping[str, Any], longest: int, fill_id: int, first_position: int = 0, most_tokens: int = 2**31
) -> dict[str, Any]:
    """Return a joined, planned batch, filled up to the shape of its bucket; other batches are returned unchanged.

    The filling is sequences of their own, which nothing else attends to and which have no label, so the loss and the
    gradients stay the same. Masked positions are filled up with one that has no label.

    Args:
        batch: joined, on the CPU, with the positions that `mlm_recipes.masking.batch_plan.Planned` adds.
        longest: the most tokens that a sequence of the run may have. Every batch gets it as its `max_length_q`.
        fill_id: the token id of the filling.
        first_position: the number of a sequence's first position.
        most_tokens: the number of tokens above which a batch is returned unchanged.

    Returns the same keys, and `filling_tokens`, their number (int).

    >>> batch = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, -100]])}
    >>> batch |= joined_row(torch.tensor([2, 1])) | {"masked_lm_positions": torch.tensor([1])}
    >>> filled = filled_up(batch, longest=200, fill_id=0)
    >>> filled["input_ids"].shape, filled["cu_seq_lens_q"].tolist(), filled["masked_lm_positions"].shape
    (torch.Size([1, 256]), [0, 2, 3, 203, 256], torch.Size([16]))
    """
    tokens = batch["input_ids"].shape[1]
    if not is_joined(batch) or tokens > most_tokens:
        return dict(batch)
    lengths = lengths_of(batch)
    missing = bucket_tokens(tokens) - tokens
    full, rest = divmod(missing, longest)
    filling = [longest] * full + [rest] * (rest > 0)
    sequences = len(lengths) + len(filling)
    filling += [0] * (-sequences % _SEQUENCES)
    rows = {
        name: torch.nn.functional.pad(value, (0, missing), value=_FILLED_WITH.get(name, fill_id))
        for name, value in batch.items()
        if isinstance(value, torch.Tensor) and value.shape == (1, tokens)
    }
    layout = joined_row(torch.cat([lengths, torch.tensor(filling, dtype=torch.int64)]), first_position)
    layout |= {"max_length_q": longest, "max_length_k": longest}
    positions = batch[POSITIONS]
    masked = -(-max(1, len(positions)) // (step := bucket_tokens(tokens) // _MASKED)) * step
    unlabelled = (~labelled(rows["labels"][0])).nonzero().flatten()
    if len(unlabelled):  # all have a label: then the batch had no filling either, and stays as it is
        extra = unlabelled[-1:].expand(masked - len(positions))
        positions = torch.cat([positions, extra])
    return {**batch, **rows, **layout, POSITIONS: positions, FILLING: missing}


def shape_of(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two batches must have in common for the same recording: names, shapes, dtypes and plain numbers."""
    return tuple(
        (name, (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else value)
        for name, value in sorted(batch.items())
    )
