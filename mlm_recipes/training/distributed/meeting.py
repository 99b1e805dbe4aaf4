"""Where the processes of one start meet: a store of its own, and who they are, before any process group exists.

torchrun keeps one store for all starts of its processes, with the addresses of processes that are gone. Its count of
restarts does not tell the starts apart: a launcher counts only the failures of its own processes, so that two launchers
may hold different counts for the same start. Here the main process numbers the start, and every other process says who
it is under that number until the main process has seen it.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch.distributed as dist

_c10d: Any = dist  # its stores have no type annotations

#: Seconds between two looks at the store.
_PAUSE = 0.05


@dataclass(frozen=True)
class Process:
    """One of the processes of a start: its rank, its machine's name, its launcher, and its place there."""

    rank: int
    host: str
    launcher: str
    local_rank: int

    def __str__(self) -> str:
        return f"process {self.rank} on {self.host}"


@dataclass(frozen=True)
class Meeting:
    """A start at which all processes have met.

    Attributes:
        address: the address and the port of the store.
        store: keys that only the processes of this start use.
        start: 1 for the first start under this launcher.
        processes: all of them, by rank.
        me: this process.
    """

    address: tuple[str, int]
    store: Any
    start: int
    processes: tuple[Process, ...]
    me: Process

    def again(self, seconds: float) -> Any:
        """Return the same keys by another connection, on which other waiting has no effect."""
        return _under(_connected(*self.address, False, seconds), self.start)


class NotMetError(ConnectionError):
    """Some processes of a run did not come, or its store cannot be reached."""


def started_together(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether a launcher has started this process with others, or may start it again.

    >>> started_together({}), started_together({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    (False, True)
    """
    found = os.environ if environment is None else environment
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= found.keys():
        return False
    return found["WORLD_SIZE"] != "1" or _launcher_keeps_the_store(found)


def met() -> Meeting | None:
    """Return the meeting of this process's start, if it took place."""
    return _met[0] if _met else None


@cache
def meet(seconds: float) -> Meeting:
    """Wait until all processes of this start are here, at most `seconds`, and return their meeting.

    Each process calls this once; after that it returns the same meeting.

    Raises: NotMetError, in the main process with the ranks that did not come.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and not _launcher_keeps_the_store(os.environ)
    try:
        store = _connected(*address, serves, seconds)
        me = [socket.gethostname(), os.environ.get("GROUP_RANK", socket.gethostname())]
        card = [*me, os.environ.get("LOCAL_RANK", "0"), uuid.uuid4().hex]
        number, cards = _gather(store, card, size, seconds) if rank == 0 else _be_seen(store, card, rank, seconds)
    except dist.DistError as error:
        raise NotMetError(
            f"processes: the store of this run at {address[0]}:{address[1]} does not answer ({_first_line(error)}). "
            "Accepted: a launcher whose first machine the others reach at that port. Check the machine and its "
            "firewall, and start all of them again."
        ) from error
    everyone = tuple(Process(place, host, group, int(local)) for place, (host, group, local, _) in enumerate(cards))
    _met.append(Meeting(address, _under(store, number), number, everyone, everyone[rank]))
    return _met[0]


_met: list[Meeting] = []


def _launcher_keeps_the_store(environment: Mapping[str, str]) -> bool:
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _connected(host: str, port: int, serves: bool, seconds: float) -> Any:
    patience = timedelta(seconds=seconds)
    return _c10d.TCPStore(host, port, is_master=serves, timeout=patience, wait_for_workers=False, multi_tenant=serves)


def _under(store: Any, start: int) -> Any:
    return _c10d.PrefixStore(f"mlm-recipes-start-{start}", store)


def _gather(store: Any, card: list[str], size: int, seconds: float) -> tuple[int, list[list[str]]]:
    """Number this start, wait for the cards of the other processes, and show them all that they were seen."""
    number = store.add("mlm-recipes-starts", 1)
    mine = _under(store, number)
    store.set("mlm-recipes-start", str(number))
    missing, deadline = list(range(1, size)), time.monotonic() + seconds
    while missing := [rank for rank in missing if not mine.check([f"card-{rank}"])]:
        if time.monotonic() > deadline:
            raise NotMetError(
                f"processes: of {size}, those with rank {', '.join(map(str, missing))} did not come within "
                f"{seconds:g} s (ddp_timeout). Accepted: all of them. Look at the output of their machines, or raise "
                "--ddp_timeout if they need longer."
            )
        time.sleep(_PAUSE)
    cards = [card, *(json.loads(mine.get(f"card-{rank}")) for rank in range(1, size))]
    mine.set("cards", json.dumps(cards))
    return number, cards


def _be_seen(store: Any, card: list[str], rank: int, seconds: float) -> tuple[int, list[list[str]]]:
    """Show this process's card under the number of the start, which may still be an earlier one's, until it is seen."""
    shown_at, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if store.check(["mlm-recipes-start"]):
            number = int(store.get("mlm-recipes-start"))
            mine = _under(store, number)
            if number != shown_at:
                mine.set(f"card-{rank}", json.dumps(card))
                shown_at = number
            if mine.check(["cards"]) and (cards := json.loads(mine.get("cards")))[rank : rank + 1] == [card]:
                return number, cards
        time.sleep(_PAUSE)
    raise NotMetError(
        f"processes: process {rank} on {card[0]} waited {seconds:g} s (ddp_timeout) for the main process, which did "
        "not see it. Accepted: all processes, started at the same time. Look at the output of the first machine, or "
        "raise --ddp_timeout if it needs longer."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
