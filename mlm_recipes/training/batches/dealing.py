"""Divides the rows of a step among processes so that none waits long for another: by their lengths.

Joined rows cost what their tokens cost, so processes with equal numbers of rows may have very different work: with 16
paragraphs of novels each, the busiest of 8 processes has 1.46 times the mean (benchmarks/balance.py). All processes
know the lengths of all rows of a step, so each computes the same division, and nothing is communicated.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

Places = list[int]


def deal(
    lengths: Sequence[int], hands: int, most: int | None = None, before: Sequence[int] | None = None
) -> list[Places]:
    """Divide rows into `hands` of about equally many tokens; return the places of each one's rows, ascending.

    The longest row that is left goes to the hand with the fewest tokens that has room: "longest processing time first"
    (Graham 1969, "Bounds on multiprocessing timing anomalies"). Equal loads are decided by the number of the hand, and
    equal lengths by place, so the result depends on nothing else.

    Args:
        lengths: the number of tokens of each row.
        hands: the number of parts.
        most: the most rows in one; by default any number.
        before: the tokens that each hand has already; by default none.

    With equal numbers it divided 16 paragraphs for each of 8 processes better than the largest differencing method of
    Karmarkar and Karp (1982), with 1.003 to 1.016 times the mean for the busiest (docs/LOG.md).

    >>> deal([9, 1, 2, 8, 6, 2], hands=2, most=3)
    [[0, 2, 5], [1, 3, 4]]
    >>> deal([9, 1, 2, 3, 1, 1], hands=2)
    [[0], [1, 2, 3, 4, 5]]
    """
    assert most is None or len(lengths) <= hands * most
    dealt: list[Places] = [[] for _ in range(hands)]
    loads = [(load, hand) for hand, load in enumerate(before or [0] * hands)]
    heapq.heapify(loads)
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        load, hand = heapq.heappop(loads)
        dealt[hand].append(place)
        if len(dealt[hand]) != most:
            heapq.heappush(loads, (load + lengths[place], hand))
    return [sorted(places) for places in dealt]


def deal_step(lengths: Sequence[int], processes: int, micro_batches: int, rows: int | None = None) -> list[Places]:
    """Divide the rows of a step among processes, and each one's among its micro-batches.

    Processes wait for each other at the end of a step, so their totals are made equal first. Each one's micro-batches
    are made equal then, so that none needs more memory than another; with FSDP, processes meet in each of them.

    Args:
        lengths: the number of tokens of each row.
        processes: the number of processes.
        micro_batches: the number that each of them computes in the step.
        rows: the most rows of a micro-batch; by default any number.

    Returns the places of each micro-batch's rows, in the order in which accelerate deals batches: the first micro-batch
    of each process, then the second of each.

    >>> deal_step([4, 4, 4, 4, 1, 1, 1, 1], processes=2, micro_batches=2, rows=2)
    [[0, 4], [1, 5], [2, 6], [3, 7]]
    """
    of_processes: list[list[Places]] = []
    for mine in deal(lengths, processes, None if rows is None else rows * micro_batches):
        parts = deal([lengths[place] for place in mine], micro_batches, rows)
        of_processes.append([[mine[place] for place in part] for part in parts])
    return [mine[number] for number in range(micro_batches) for mine in of_processes]


def in_order(rows: int, batches: int) -> list[Places]:
    """Divide rows into batches of equally many in their order, whatever their lengths: the plain equivalent.

    >>> in_order(4, batches=2)
    [[0, 1], [2, 3]]
    """
    return [part.tolist() for part in np.array_split(np.arange(rows), batches)]
