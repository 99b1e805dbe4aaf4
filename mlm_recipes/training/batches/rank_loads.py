"""How evenly the tokens of each step are divided among the processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...masking.random_keys import Ints
from ...metrics_file import Balance


class RankLoads:
    """The most tokens that a process has in each step, as the rows were dealt, and as they would be in their order.

    Rows are dealt ahead, also for steps that are never taken, so `facts` is told which were.

    >>> loads = RankLoads(processes=2, by_length=True)
    >>> loads.add(step=0, dealt=[60, 50], in_order=[90, 20])
    >>> loads.add(step=1, dealt=[50, 50], in_order=[40, 60])
    >>> loads.facts(range(2))
    {'by_length': True, 'max_to_mean': 1.0476190476190477, 'in_order': 1.4285714285714286}
    """

    def __init__(self, processes: int, by_length: bool) -> None:
        self.processes, self.by_length = processes, by_length
        # Of each step the most tokens dealt, the most in order, and all tokens; a run may have millions of steps.
        self._steps: Ints = np.zeros((1024, 3), dtype=np.int64)
        self._loads: Ints = np.zeros((2, processes), dtype=np.int64)

    def add(self, step: int, dealt: Sequence[int], in_order: Sequence[int], anew: bool = True) -> None:
        """Record the tokens of each process in a step, counted from 0; if not `anew`, in further batches of it."""
        if step >= len(self._steps):
            self._steps = np.concatenate([self._steps, np.zeros((step + 1, 3), dtype=np.int64)])
        loads: Ints = np.array([dealt, in_order], dtype=np.int64)
        self._loads = loads if anew else self._loads + loads
        self._steps[step] = [*self._loads.max(1).tolist(), self._loads[0].sum()]

    def of_last(self) -> list[int]:
        """Return the tokens that each process has been dealt of the last step so far."""
        return self._loads[0].tolist()

    def facts(self, steps: range) -> Balance | None:
        """Return what metrics.json says of these steps: the sum of the most tokens, divided by that of the means.

        None for one process, and if nothing is known of these steps.
        """
        dealt, in_order, tokens = self._steps[steps.start : steps.stop].sum(0).tolist()
        if not tokens or self.processes == 1:
            return None
        mean = tokens / self.processes
        return {"by_length": self.by_length, "max_to_mean": dealt / mean, "in_order": in_order / mean}
