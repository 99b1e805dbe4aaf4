"""The layout of a batch: which positions have a label, where its examples begin, and how to divide it.

A batch is either padded, with an `attention_mask` and tensors of shape `(batch, seq_len)`, or joined: its sequences are
in one row, `(1, tokens)`, and `cu_seq_lens_q` contains the start of each. Other modules call the functions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from .random_keys import Ints

#: The label of a position without a loss: torch's cross-entropy skips it, and Trainer does not count it.
IGNORE_INDEX = -100

#: What `mlm_recipes.masking.batch_plan` adds to a batch. It describes the whole batch, so a part of it does not get it.
PLANNED = ("masked_lm_positions", "length_parts", "filling_tokens")


def labelled(labels: torch.Tensor) -> torch.Tensor:
    """Return which positions have a label, bool, of the same shape: the masked tokens, unless `loss_on` is `all`.

    >>> labelled(torch.tensor([[-100, 7, -100]])).tolist()
    [[False, True, False]]
    """
    return labels != IGNORE_INDEX


def is_joined(batch: Mapping[str, Any]) -> bool:
    """Tell whether the sequences of a batch are joined in one row instead of padded.

    >>> is_joined(joined_row(torch.tensor([3, 2]))), is_joined({"attention_mask": torch.ones(2, 3)})
    (True, False)
    """
    return "cu_seq_lens_q" in batch


def lengths_of(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the number of tokens of each example, padding excluded, shape `(examples,)`, on the batch's device.

    A batch of rows without an `attention_mask` counts as one without padding.

    >>> lengths_of(joined_row(torch.tensor([3, 2]))).tolist()
    [3, 2]
    >>> lengths_of({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}).tolist()
    [2, 3]
    """
    if is_joined(batch):
        return batch["cu_seq_lens_q"].diff()
    if "attention_mask" in batch:
        return batch["attention_mask"].sum(-1)
    rows, width = batch["input_ids"].shape
    return batch["input_ids"].new_full((rows,), width)


def joined_row(lengths: torch.Tensor, first: int = 0) -> dict[str, Any]:
    """Return the arguments that describe sequences in one row to a model, under transformers' names.

    Args:
        lengths: tokens of each sequence, int64, shape `(sequences,)`.
        first: the number of a sequence's first position.

    >>> joined_row(torch.tensor([3, 2]))["position_ids"]
    tensor([[0, 1, 2, 0, 1]])
    >>> joined_row(torch.tensor([3, 2]))["cu_seq_lens_q"]
    tensor([0, 3, 5], dtype=torch.int32)
    """
    ends = lengths.cumsum(0)
    starts = (ends - lengths).repeat_interleave(lengths)
    borders = torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)
    longest = int(lengths.max())
    return {
        "position_ids": (torch.arange(int(ends[-1])) - starts + first).unsqueeze(0),  # (1, tokens)
        **{"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest},
    }


def without_mask(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a padding-free batch with a mask that hides nothing, and any other batch unchanged.

    Attention does not need a mask to find the sequences, but without one, models with sliding windows would build one
    of shape `(tokens, tokens)`. They use a mask with four dimensions unchanged.
    """
    if not is_joined(batch):
        return batch
    return batch | {"attention_mask": batch["input_ids"].new_ones(1, 1, 1, 1, dtype=torch.bool)}


def count_examples(batch: Mapping[str, Any]) -> int:
    """Return the number of examples in a batch, padded or joined; 1 for a batch that cannot be split.

    >>> count_examples({"input_ids": torch.zeros(4, 9)})
    4
    >>> count_examples({"input_ids": torch.zeros(1, 9), "cu_seq_lens_q": torch.tensor([0, 5, 9])})
    2
    """
    if is_joined(batch):
        return len(batch["cu_seq_lens_q"]) - 1
    tensors = (value for name, value in batch.items() if isinstance(value, torch.Tensor) and name not in PLANNED)
    sizes = {tensor.shape[:1] for tensor in tensors}
    return sizes.pop().numel() if len(sizes) == 1 else 1


def split(batch: Mapping[str, Any], parts: int) -> list[Mapping[str, Any]]:
    """Split a batch into parts of equal size, or one example more; into fewer parts if there are not enough examples.

    Args:
        batch: tensors of the shape `(batch, ...)`; or a padding-free batch of DataCollatorForMaskedLM: tensors of the
            shape `(1, tokens)`, `cu_seq_lens_*` and `max_length_*`.

    >>> [part["input_ids"].tolist() for part in split({"input_ids": torch.arange(3)[:, None]}, 2)]
    [[[0]], [[1], [2]]]
    >>> joined = {"input_ids": torch.tensor([[7, 8, 9]]), "cu_seq_lens_q": torch.tensor([0, 1, 3]), "max_length_q": 2}
    >>> split(joined, 2)[1]
    {'input_ids': tensor([[8, 9]]), 'cu_seq_lens_q': tensor([0, 2]), 'max_length_q': 2}
    """
    examples = count_examples(batch)
    parts = min(parts, examples)
    if parts <= 1:
        return [batch]
    batch = {name: value for name, value in batch.items() if name not in PLANNED}
    borders = [examples * part // parts for part in range(parts + 1)]
    pairs = pairwise(borders)
    if is_joined(batch):
        return [_sequences(batch, first, end) for first, end in pairs]
    return [
        {name: value[first:end] if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        for first, end in pairs
    ]


def _sequences(batch: Mapping[str, Any], first: int, end: int) -> Mapping[str, Any]:
    """Return the sequences from `first` to before `end` of a joined row."""
    starts = batch["cu_seq_lens_q"][first : end + 1].tolist()

    def cut(name: str, value: Any) -> Any:
        if name.startswith("cu_seq_lens"):
            return value[first : end + 1] - value[first]
        if name.startswith("max_length"):
            return max(after - start for start, after in pairwise(starts))
        return value[:, starts[0] : starts[-1]]

    return {name: cut(name, value) for name, value in batch.items()}


def places_of(batch: Mapping[str, Any]) -> tuple[Ints, Ints]:
    """Return for each masked token the index of its example in the batch, and its position in the example.

    >>> labels = torch.tensor([[-100, 7, -100, -100, 8]])
    >>> place, position = places_of(joined_row(torch.tensor([3, 2])) | {"labels": labels})
    >>> place.tolist(), position.tolist()
    ([0, 1], [1, 1])
    """
    masked = labelled(batch["labels"]).cpu().numpy()  # (batch, seq_len), or (1, tokens)
    if is_joined(batch):
        flat = np.flatnonzero(masked[0])
        starts = batch["cu_seq_lens_q"].cpu().numpy()
        place = np.searchsorted(starts, flat, side="right") - 1
        return place, flat - starts[place]
    place, column = np.nonzero(masked)
    positions = np.cumsum(batch["attention_mask"].cpu().numpy(), axis=1) - 1
    return place, positions[place, column]


def rows_by_example(batch: Mapping[str, Any], column: torch.Tensor, fill: int = 0) -> torch.Tensor:
    """Return values of masked tokens, one row per example: shape `(examples, most masked tokens, ...)`.

    Args:
        batch: padded or joined, with labels.
        column: values of the masked tokens in the order of the labels, shape `(masked, ...)`.
        fill: what examples with fewer masked tokens are filled up with.

    >>> batch = {"labels": torch.tensor([[5, -100, 6], [-100, 7, -100]])}
    >>> rows_by_example(batch, torch.tensor([50, 60, 70]), fill=-1).tolist()
    [[50, 60], [70, -1]]
    """
    where = labelled(batch["labels"])  # (batch, seq_len), or (1, tokens)
    examples = where[0].split(lengths_of(batch).tolist()) if is_joined(batch) else where
    counts = [int(example.sum()) for example in examples]
    return torch.nn.utils.rnn.pad_sequence(list(column.split(counts)), batch_first=True, padding_value=fill)


def sum_by_example(batch: Mapping[str, Any], *columns: torch.Tensor) -> torch.Tensor:
    """Sum values of masked tokens over each example, in a fixed order: float32, shape `(examples, columns)`.

    Args:
        batch: padded or joined, with labels on the columns' device.
        columns: values of the masked tokens in the order of the labels, each of shape `(masked,)`.

    >>> batch = {"labels": torch.tensor([[5, -100, 6], [-100, 7, -100]])}
    >>> sum_by_example(batch, torch.tensor([0.5, 1.0, 4.0]), torch.tensor([True, True, False])).tolist()
    [[1.5, 2.0], [4.0, 0.0]]
    """
    labels = batch["labels"]
    where = labelled(labels)
    # The values return to their positions, (columns, batch, seq_len). In float32, since MPS has no float64.
    placed = torch.zeros(len(columns), *labels.shape, device=labels.device, dtype=torch.float32)
    for row, column in zip(placed, columns, strict=True):
        row[where] = column.float()
    if is_joined(batch):
        examples = placed[:, 0].split(lengths_of(batch).tolist(), dim=-1)
        return torch.stack([example.sum(-1) for example in examples])
    return placed.sum(-1).T
