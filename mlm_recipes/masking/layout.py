"""A padded batch in parts of like length: less padding, for models that cannot take padding-free batches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from .keys import Ints

#: What another forward pass costs, in tokens. A GPU is better used by a few large ones.
PRICE = {"cpu": 128}
PRICE_ELSEWHERE = 4096


def by_length(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Split a batch into parts, the longest examples first, each cut to its own longest.

    Args:
        batch: `attention_mask` and others, each of shape `(batch, seq_len)`.

    The examples of the batch stay what they were, unlike with `train_sampling_strategy=group_by_length`, which deals
    examples of like length out to the same step. A new part begins where it saves more padding than a pass costs.

    >>> mask = torch.arange(300) < torch.tensor([[300], [20], [290], [10]])
    >>> [tuple(part["attention_mask"].shape) for part in by_length({"attention_mask": mask.long()})]
    [(2, 300), (2, 20)]
    """
    attended = batch["attention_mask"].bool()
    lengths, order = attended.sum(1).sort(descending=True, stable=True)
    price = PRICE.get(attended.device.type, PRICE_ELSEWHERE)
    starts, sizes = [0], lengths.tolist()
    for place, length in enumerate(sizes):
        if (sizes[starts[-1]] - length) * (len(sizes) - place) > price:
            starts.append(place)
    parts = []
    for rows in order.tensor_split(starts[1:]):
        used = attended[rows].any(0).nonzero().flatten()  # padding may stand on either side
        columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        parts.append({name: tensor[rows, columns] for name, tensor in batch.items()})
    return parts


def joined_row(lengths: torch.Tensor, first: int = 0) -> dict[str, Any]:
    """Return what a model must know about sequences in one row, under transformers' names for it.

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
    """Return a padding-free batch with a mask that hides nothing, and any other as it is.

    Attention finds the sequences by itself. Given no mask, models with sliding windows would build one, of
    `(tokens, tokens)`; one with four dimensions they take as it is.
    """
    if "cu_seq_lens_q" not in batch:
        return batch
    return batch | {"attention_mask": batch["input_ids"].new_ones(1, 1, 1, 1, dtype=torch.bool)}


def count_examples(batch: Mapping[str, Any]) -> int:
    """Return the examples of a batch, padded or joined in one row; 1 for one that cannot be split.

    >>> count_examples({"input_ids": torch.zeros(4, 9)})
    4
    >>> count_examples({"input_ids": torch.zeros(1, 9), "cu_seq_lens_q": torch.tensor([0, 5, 9])})
    2
    """
    if "cu_seq_lens_q" in batch:
        return len(batch["cu_seq_lens_q"]) - 1
    sizes = {value.shape[:1] for value in batch.values() if isinstance(value, torch.Tensor)}
    return sizes.pop().numel() if len(sizes) == 1 else 1


def split(batch: Mapping[str, Any], parts: int) -> list[Mapping[str, Any]]:
    """Split a batch into parts of as many examples, or one more; fewer parts if there are not enough examples.

    Args:
        batch: tensors of the shape `(batch, ...)`; or `(1, tokens)` and, as DataCollatorForMaskedLM makes them
            padding-free, `cu_seq_lens_*` and `max_length_*`.

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
    borders = [examples * part // parts for part in range(parts + 1)]
    pairs = pairwise(borders)
    if "cu_seq_lens_q" in batch:
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


def places_of(batch: dict[str, Any]) -> tuple[Ints, Ints]:
    """Return for each masked token which example of the batch it is of, and its position among the example's tokens."""
    masked = (batch["labels"] != -100).numpy()  # (batch, seq_len), or (1, tokens)
    if "cu_seq_lens_q" in batch:
        flat = np.flatnonzero(masked[0])
        starts = batch["cu_seq_lens_q"].numpy()
        place = np.searchsorted(starts, flat, side="right") - 1
        return place, flat - starts[place]
    place, column = np.nonzero(masked)
    positions = np.cumsum(batch["attention_mask"].numpy(), axis=1) - 1
    return place, positions[place, column]
