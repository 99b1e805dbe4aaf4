"""What a step needs to know of a batch, found on the CPU: a GPU would have to be asked, and everything would wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .batch_layout import PLANNED, is_joined, labelled
from .one_buffer import OneBuffer

#: The cost of an additional forward pass, in tokens. On a GPU, few large passes are more efficient.
PRICE = {"cpu": 128}
PRICE_ELSEWHERE = 4096

POSITIONS, PARTS, FILLING = PLANNED

#: Rows of a batch, int64, shape `(rows,)`; their first column and the one after their last; and the positions with a
#: label in the part that they are.
Part = tuple[torch.Tensor, int, int, torch.Tensor]


def masked_positions(labels: torch.Tensor) -> torch.Tensor:
    """Return the positions with a label, int64, shape `(masked,)`, as indices of the flattened labels.

    On a GPU this waits for the device.

    >>> masked_positions(torch.tensor([[-100, 7, -100], [8, -100, -100]])).tolist()
    [1, 3]
    """
    return labelled(labels).flatten().nonzero().flatten()


class Planned:
    """A collator that adds to each batch the positions with a label, and which rows to pass together.

    Args:
        collate: any collator; a batch without `labels` is not changed.
        device_type: where the batch will be used: `cpu`, `cuda` ...
        in_parts: add the parts of similar length too, for padded batches.
        fill: what else is done to a planned batch, such as `mlm_recipes.masking.buckets.filled_up`.

    >>> collate = Planned(lambda rows: {"labels": torch.tensor(rows)}, "cpu")
    >>> collate([[-100, 7], [8, -100]])["masked_lm_positions"]
    tensor([1, 2])
    """

    def __init__(
        self,
        collate: Callable[[Any], Any],
        device_type: str,
        in_parts: bool = False,
        fill: Callable[[Any], Any] | None = None,
    ) -> None:
        self.collate, self.device_type, self.in_parts, self.fill = collate, device_type, in_parts, fill

    def __call__(self, rows: Any) -> Any:
        """Return a batch of `rows`."""
        batch = self.collate(rows)
        if "labels" not in batch:
            return batch
        plan: dict[str, Any] = {POSITIONS: masked_positions(batch["labels"])}
        if self.in_parts and not is_joined(batch):
            plan[PARTS] = length_parts(batch, self.device_type)
        planned = {**batch, **plan}
        if self.fill is not None:
            planned = self.fill(planned)
        return planned if PARTS in planned else OneBuffer.of(planned)


def by_length(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Divide a batch into parts, the longest examples first, each cut to the length of its longest example.

    Args:
        batch: `attention_mask` and other tensors, each of shape `(batch, seq_len)`; and the parts, if planned.

    The batch keeps its examples, unlike with `train_sampling_strategy=group_by_length`, which puts examples of similar
    length into the same step. A new part begins where it saves more padding than an additional pass costs.

    >>> mask = torch.arange(300) < torch.tensor([[300], [20], [290], [10]])
    >>> [tuple(part["attention_mask"].shape) for part in by_length({"attention_mask": mask.long()})]
    [(2, 300), (2, 20)]
    """
    parts = batch[PARTS] if PARTS in batch else length_parts(batch, batch["attention_mask"].device.type)
    columns = {name: value for name, value in batch.items() if name not in PLANNED}
    return [
        {name: value[rows, first:end] for name, value in columns.items()}
        | ({POSITIONS: positions} if "labels" in columns else {})
        for rows, first, end, positions in parts
    ]


def length_parts(batch: Mapping[str, Any], device_type: str) -> list[Part]:
    """Return the parts that `by_length` makes of a padded batch; on a GPU this waits for the device."""
    attended = batch["attention_mask"].bool()
    lengths, order = attended.sum(1).sort(descending=True, stable=True)
    price = PRICE.get(device_type, PRICE_ELSEWHERE)
    starts, sizes = [0], lengths.tolist()
    for place, length in enumerate(sizes):
        if (sizes[starts[-1]] - length) * (len(sizes) - place) > price:
            starts.append(place)
    parts = []
    for rows in order.tensor_split(starts[1:]):
        used = attended[rows].any(0).nonzero().flatten()  # padding may be on either side
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        labels = batch["labels"][rows, first:end] if "labels" in batch else torch.empty(0)
        parts.append((rows, first, end, masked_positions(labels)))
    return parts
