"""A padded batch in parts of like length: less padding, for models that cannot take padding-free batches."""

from __future__ import annotations

import torch

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
