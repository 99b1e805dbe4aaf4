"""Processes that fail together: the first failure is told to all, and each knows whether it is the one to print it.

An error in one process would leave the others waiting, at worst for each other's addresses, where no connection breaks.
The command line asks here what to print (`own_failure`), and lets another's failure end its process (`end_with`). A
library must not end its caller's process: there, the others wait until `ddp_timeout`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

from ...report.unexpected_error import lost_another
from .meeting import Meeting, NotMetError, Process, meet, started_together
from .signs_of_life import PERIOD, SILENCE, SignsOfLife

#: Seconds that a process has to end by itself, after another one has failed.
_GRACE = 3.0

#: Seconds that the main process waits for the others to end, since its launcher keeps the store of theirs.
_LAST = 8.0

_NO_STORE = "nor from its launcher, which keeps the run's store"

#: Seconds to find out whether all processes have the same error, and to meet if one fails before they have met.
_SAME, _MEET = 2.0, 60.0


@dataclass(frozen=True)
class Failure:
    """Why all processes end: the message and the exit code; `rank` is the process that failed first.

    With `lost`, it did not tell so itself: the others have found out.
    """

    rank: int
    message: str
    code: int
    lost: bool = False


class Fellows:
    """The processes that this one trains with.

    Args:
        meeting: where they have met.
        seconds: how long each may give no sign of life (ddp_timeout).
    """

    def __init__(self, meeting: Meeting, seconds: float) -> None:
        self.meeting, self.seconds = meeting, seconds
        self.ending = threading.Lock()  # whoever holds it ends this process: the main thread, or the other one
        self._grace: float | None = None
        self.signs = SignsOfLife(meeting, self._check)
        self.signs.begin()

    def tell(self, failure: Failure) -> Failure:
        """Tell the others of a failure, and return the first one that was told."""
        store, text = self.signs.store, json.dumps(asdict(failure))
        first = self.signs.asked(lambda: store.compare_set("failure", "", text))
        return Failure(**json.loads(first)) if first else failure

    def told(self) -> Failure | None:
        """Return the first failure that was told."""
        store = self.signs.store
        text = self.signs.asked(lambda: store.get("failure") if store.check(["failure"]) else None)
        return Failure(**json.loads(text)) if text else None

    def all_have(self, message: str) -> bool:
        """Tell whether all processes fail with the same message, which all of them must ask about to know."""
        store, keys = self.signs.store, [f"error-{process.rank}" for process in self.meeting.processes]
        self.signs.asked(lambda: store.set(keys[self.meeting.me.rank], message))
        deadline = time.monotonic() + _SAME
        while time.monotonic() < deadline:
            said = self.signs.asked(lambda: [store.get(key) for key in keys] if store.check(keys) else [])
            if said:
                return all(each.decode() == message for each in said)
            time.sleep(PERIOD / 10)
        return False

    def why_alone(self, error: BaseException) -> Failure | None:
        """Return the failure behind an error that is only that another process cannot be reached, if it is found."""
        silent = self.signs.look_round(self.told)
        if (failure := self.told()) is not None:
            return failure
        if silent is None:
            return self._without_store(SILENCE)
        if silent:
            return self.tell(lost(silent, SILENCE))
        return self.tell(_late(self.meeting.me, self.seconds)) if _timed_out(error) else None

    def speaks_of(self, failure: Failure) -> bool:
        """Tell whether this process prints another's failure: one process under each launcher does.

        Under the launcher of a process that has told it, that one has printed it.
        """
        me, failed = self.meeting.me, self.meeting.processes[failure.rank]
        if failed == me:  # it was thought to be lost, and is not
            return True
        if failed.launcher == me.launcher and not failure.lost:
            return False
        here = [each for each in self.meeting.processes if each.launcher == me.launcher and each != failed]
        return me == min(here, key=lambda each: each.local_rank)

    def _check(self) -> None:
        """Every second: end this process if another one has failed, or is silent for too long."""
        failure = self.told() or self._given_up()
        if failure is None or not _end:
            return
        self._grace = self._grace or time.monotonic() + _GRACE
        if time.monotonic() >= self._grace and self.ending.acquire(blocking=False):
            _end[0](failure.message if self.speaks_of(failure) else None, failure.code, self.leave)

    def leave(self) -> None:
        """Say that this process ends; the main one first waits for the others to say so."""
        if self.signs.ended:
            return
        deadline = time.monotonic() + _LAST
        if self.meeting.me.rank == 0:
            failure = self.told()
            lost = failure.rank if failure is not None and failure.lost else None
            others = [each for each in self.meeting.processes[1:] if each.rank != lost]
            while not self.signs.have_left(others) and time.monotonic() < deadline:
                time.sleep(PERIOD / 4)
            time.sleep(PERIOD / 2)  # their launchers have to notice
        self.signs.end()

    def _given_up(self) -> Failure | None:
        everyone, me = self.meeting.processes, self.meeting.me
        silent = self.signs.silent_for(self.seconds, everyone[1:] if me.rank == 0 else everyone[:1])
        if not silent:
            return None
        return self.tell(lost(silent, self.seconds)) if self.signs.answered() else self._without_store(self.seconds)

    def _without_store(self, seconds: float) -> Failure:
        """Return the failure of the process beside the store, which does not answer."""
        main, me = self.meeting.processes[0], self.meeting.me
        if me != main:
            return lost([main], seconds, _NO_STORE)
        return Failure(
            me.rank,
            f"processes: {me} cannot reach the run's store, which its launcher keeps, for {seconds:g} s. Accepted: a "
            "launcher that lives until the end of the run. It was killed or is frozen: its machine's log may say why. "
            "Resume the run with --resume_from_checkpoint true.",
            2,
            lost=True,
        )


def caused_elsewhere(error: BaseException) -> tuple[str | None, int] | None:
    """Return what to print of another process's failure, if anything, and the exit code; None if `error` is our own.

    It is the other's if all it says is that a process cannot be reached, and it is found out which one, and why.

    >>> caused_elsewhere(ValueError("corpus: received 'no.txt'. ..."))
    """
    if not _fellows or _fellows[0].signs.ended or not lost_another(error):
        return None
    fellows = _fellows[0]
    fellows.ending.acquire()
    found = fellows.why_alone(error)
    if found is None:
        fellows.ending.release()
        return None
    return (found.message if fellows.speaks_of(found) else None), found.code


def own_failure(message: str, code: int) -> tuple[str | None, int]:
    """Tell the other processes of this one's error; return what this process prints, if anything, and its exit code.

    Of an error that all processes have, the main one prints `message` as it is. Any other message names its process.

    >>> own_failure("corpus: received 'no.txt'. ...", 2)
    ("corpus: received 'no.txt'. ...", 2)
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return message, code
    rank = int(os.environ.get("RANK", "0"))
    if not _fellows and started_together():
        _meet_to_tell()
    if not _fellows:
        return f"process {rank} on {socket.gethostname()}: {message}", code
    fellows = _fellows[0]
    if fellows.signs.ended:  # it works alone, and the others need not know
        return (message if rank == 0 else f"{fellows.meeting.me}: {message}"), code
    fellows.ending.acquire()
    named = f"{fellows.meeting.me}: {message}"
    fellows.tell(Failure(rank, named, code))
    return (message if rank == 0 else None) if fellows.all_have(message) else named, code


def watch(meeting: Meeting, seconds: float) -> None:
    """Begin to watch the others of a meeting; called once."""
    if len(meeting.processes) > 1 and not _fellows:
        _fellows.append(Fellows(meeting, seconds))


def end_with(end: Callable[[str | None, int, Callable[[], None]], None]) -> None:
    """Let the failure of another process end this one.

    `end` is called with what to print, if anything, the exit code, and what to call between the two. It is called in a
    thread, since the main one may wait for the process that failed, and must not return.
    """
    _end[:] = [end]


def leave() -> None:
    """Say, after a failure and what was printed about it, that this process ends."""
    for fellows in _fellows:
        fellows.leave()


def go_alone() -> None:
    """Say that the processes do nothing together any more: each may fail, and end, without the others."""
    for fellows in _fellows:
        fellows.signs.end()


def patience() -> timedelta | None:
    """Return how long a process waits for the others, if it has met them."""
    return timedelta(seconds=_fellows[0].seconds) if _fellows else None


def lost(silent: list[Process], seconds: float, more: str = "") -> Failure:
    """Return the failure of processes that give no sign of life."""
    named = " and ".join(map(str, silent))
    return Failure(
        silent[0].rank,
        f"processes: no answer from {named}: no sign of life for {seconds:g} s{f' ({more})' if more else ''}. "
        "Accepted: all processes until the end. It was killed, is frozen, or cannot be reached: its machine's log may "
        "say why (often a lack of memory). Resume the run with --resume_from_checkpoint true.",
        2,
        lost=True,
    )


def _late(me: Process, seconds: float) -> Failure:
    return Failure(
        me.rank,
        f"processes: {me} waited {seconds:g} s (ddp_timeout) for another one, which gives signs of life but did not "
        "come so far. Accepted: processes that wait no longer than that. If one of them only needs longer, to read a "
        "corpus for example, raise --ddp_timeout; otherwise look for a disk or a device that hangs.",
        2,
    )


def _timed_out(error: BaseException) -> bool:
    return "timed out" in str(error).lower() or "timeout" in str(error).lower()


def _meet_to_tell() -> None:
    """Meet the others, who may still be on their way, to tell them that there will be no group."""
    try:
        meeting = meet(_MEET)
    except NotMetError:
        return
    watch(meeting, _MEET)


_fellows: list[Fellows] = []
_end: list[Callable[[str | None, int, Callable[[], None]], None]] = []
