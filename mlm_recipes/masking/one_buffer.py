"""A batch whose tensors are parts of one: it is passed on, pinned and copied to a GPU at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

#: Each tensor begins at a multiple of this many bytes, the size of the largest element.
_ALIGNED = 8

#: Where a tensor is: its first byte, its dtype and its shape.
_Place = tuple[int, torch.dtype, torch.Size]


class OneBuffer(dict[str, Any]):
    """A batch of tensors and plain numbers, such as a collator returns, in one tensor of bytes.

    A worker passes each tensor on through a file of its own, and each is pinned and copied separately; one costs less.
    The methods are those that torch's data loader (`pin_memory`) and accelerate (`to`) call.

    >>> batch = OneBuffer.of({"input_ids": torch.tensor([[5, 6]]), "max_length_q": 2})
    >>> batch.to("cpu")
    {'input_ids': tensor([[5, 6]]), 'max_length_q': 2}
    """

    _buffer: torch.Tensor | None = None
    _places: Mapping[str, _Place]

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> OneBuffer:
        """Copy a batch into one buffer; tensors that are one under two names stay one."""
        places: dict[str, _Place] = {}
        known: dict[int, _Place] = {}
        size = 0
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                if id(value) not in known:
                    known[id(value)] = size, value.dtype, value.shape
                    size += -(-value.numel() * value.element_size() // _ALIGNED) * _ALIGNED
                places[name] = known[id(value)]
        found = cls(batch)._in(torch.empty(size, dtype=torch.uint8), places)
        for name in places:
            found[name].copy_(batch[name])
        return found

    def _in(self, buffer: torch.Tensor, places: Mapping[str, _Place]) -> OneBuffer:
        """Return the same numbers, with the tensors that are in `buffer`."""
        found = OneBuffer(self)
        made: dict[_Place, torch.Tensor] = {}
        for name, place in places.items():
            if place not in made:
                first, dtype, shape = place
                end = first + math.prod(shape) * dtype.itemsize
                made[place] = buffer[first:end].view(dtype).view(shape)
            found[name] = made[place]  # the same object: what is compiled is so for two names of one tensor
        found._buffer, found._places = buffer, places
        return found

    def __reduce__(self) -> Any:
        if self._buffer is None:
            return OneBuffer, (dict(self),)
        numbers = {name: value for name, value in self.items() if name not in self._places}
        return _rebuilt, (list(self), numbers, self._buffer, dict(self._places))

    def pin_memory(self) -> OneBuffer:
        """Return the batch in pinned memory."""
        return self._moved(lambda tensor: tensor.pin_memory())

    def to(self, device: Any, non_blocking: bool = False) -> OneBuffer:
        """Return the batch on a device; from pinned memory it is always copied without waiting.

        accelerate forgets `non_blocking` in the epoch in which a run is resumed (`skip_first_batches`, 1.15).
        """
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking or tensor.is_pinned()))

    def _moved(self, move: Any) -> OneBuffer:
        if self._buffer is not None and self._places.keys() <= self.keys():
            return self._in(move(self._buffer), self._places)
        return OneBuffer(
            {name: move(value) if isinstance(value, torch.Tensor) else value for name, value in self.items()}
        )


def _rebuilt(
    names: list[str], numbers: Mapping[str, Any], buffer: torch.Tensor, places: Mapping[str, _Place]
) -> OneBuffer:
    return OneBuffer({name: numbers.get(name) for name in names})._in(buffer, places)
