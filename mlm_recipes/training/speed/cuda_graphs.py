"""Records what is computed on a GPU as CUDA graphs, and leaves everything as it was where that fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch


class CudaGraphs:
    """Records CUDA graphs, which share their memory: only one runs at a time, and nothing of it is used afterwards."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # always the same: cuBLAS keeps memory for each
        self.bytes = 0

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what replays the kernels of `act`; it is run once before, so that recording sets nothing up."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            act()
        usual.wait_stream(self._stream)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # as recording does first; what is reserved afterwards is what it keeps
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.memory_reserved()
        try:
            # The loader's thread, which pins memory, may go on meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                act()
        except BaseException:
            self._leave(graph, usual)
            raise
        self.bytes += max(0, torch.cuda.memory_reserved() - before)
        return graph.replay

    def _leave(self, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
        """Undo what a recording that failed leaves switched on in this process (torch 2.11 to 2.13).

        Otherwise all that follows would run on the recording's stream, the next dropout would raise ("Offset increment
        outside graph capture encountered unexpectedly"), and no cached memory would be given back any more.
        """
        torch.cuda.set_stream(stream)
        graph.reset()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        fresh = torch.Generator(generator.device)
        fresh.set_state(generator.get_state())
        generator.graphsafe_set_state(fresh.graphsafe_get_state())
        allocator: Any = torch.cuda.memory
        with suppress(RuntimeError):  # raised if the recording was ended properly
            allocator._cuda_endAllocateToPool(generator.device.index, self._pool)
            allocator._cuda_releasePool(generator.device.index, self._pool)

    def seconds(self, act: Callable[[], None]) -> float:
        """Run `act` and return the seconds that it took, measured on the device."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        act()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000
