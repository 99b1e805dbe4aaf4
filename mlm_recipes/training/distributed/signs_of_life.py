"""Signs of life of processes that train together, which tell who does not answer when the others wait in vain.

Each process writes a sign into the store of their meeting every second, from a thread, since a process that waits for
another one runs no Python.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from .meeting import Meeting, Process

T = TypeVar("T")

#: Seconds between two signs of life.
PERIOD = 1.0

#: Seconds after which a process that gives no sign is called silent, once something has failed.
SILENCE = 5.0

#: Seconds that the store may take to answer; torch's own limit, and the one that is kept here. Some of torch's
#: questions have none: over a cut link they wait for TCP, a quarter of an hour.
_PATIENCE, _ANSWER = 30.0, 5.0

_LEFT = "left"


class SignsOfLife:
    """The signs of this process, and those of the others; `check` is called every second, in a thread.

    The connection to the store is its own, so that nobody else's waiting delays it.
    """

    def __init__(self, meeting: Meeting, check: Callable[[], None]) -> None:
        self.meeting, self.store = meeting, meeting.again(_PATIENCE)
        self._check = check
        self._stop = threading.Event()
        self._changed: dict[int, tuple[str, float]] = {}
        self._looked = time.monotonic()
        self._late: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
        self.store.set(_key(meeting.me), "0")

    def begin(self) -> None:
        """Begin to give signs, and to call `check`; they end with the interpreter at the latest.

        A thread that leaves torch's code while the interpreter ends aborts the process ("terminate called without an
        active exception", Python 3.11 with torch 2.13).
        """
        self._thread.start()
        atexit.register(self.end)

    def end(self) -> None:
        """End that, and say that this process has left, so that its silence means nothing."""
        if self.ended:
            return
        atexit.unregister(self.end)
        self._stop.set()
        if threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join(2 * _ANSWER)  # it may be waiting for the store
        self.asked(lambda: self.store.set(_key(self.meeting.me), _LEFT))

    def answered(self) -> bool:
        """Ask the store for something, and return whether it answers."""
        return self._signs([self.meeting.me]) is not None

    def have_left(self, processes: Sequence[Process]) -> bool:
        """Return whether these have left, as far as the store answers."""
        signs = self._signs(processes)
        return signs is None or {*signs} <= {_LEFT}

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._stop.is_set()

    def asked(self, ask: Callable[[], T]) -> T | None:
        """Return what the store answers; None if it does not answer: its process or its machine is gone.

        While one question waits in vain, no other is asked.
        """
        if self._late is not None and self._late.is_alive():
            return None
        found: list[T] = []

        def run() -> None:
            # torch's own kinds of RuntimeError, for stores and connections
            with suppress(RuntimeError):
                found.append(ask())

        asking = threading.Thread(target=run, name="question to the store", daemon=True)
        began = time.monotonic()
        asking.start()
        asking.join(_ANSWER)
        if asking.is_alive():
            self._late = asking
            if time.monotonic() - began < 2 * _ANSWER:  # otherwise this process was stopped meanwhile
                self._looked = time.monotonic()
        return found[0] if found else None

    def silent_for(self, seconds: float, processes: Sequence[Process]) -> list[Process]:
        """Return those of `processes` whose sign has not changed for so long, as far as earlier calls have seen.

        Signs that cannot be read have not changed.
        """
        signs, now = self._signs(processes), time.monotonic()
        if now - self._looked > SILENCE + _ANSWER:  # this process itself was stopped, perhaps together with the others
            self._changed.clear()
        self._looked = now
        for process, sign in zip(processes, signs or [], strict=signs is not None):
            if process.rank not in self._changed or self._changed[process.rank][0] != sign:
                self._changed[process.rank] = sign, now
        found = [(process, *self._changed.setdefault(process.rank, ("", now))) for process in processes]
        return [process for process, sign, since in found if sign != _LEFT and now - since > seconds]

    def look_round(self, enough: Callable[[], Any]) -> list[Process] | None:
        """Return which of the others give no sign for SILENCE seconds, or None if the store does not answer.

        It ends early when `enough` returns something.
        """
        others = [process for process in self.meeting.processes if process != self.meeting.me]
        signs = self._signs(others)
        if signs is None:
            return None
        before = {process: sign for process, sign in zip(others, signs, strict=True) if sign != _LEFT}
        silent, deadline = list(before), time.monotonic() + SILENCE
        while silent and time.monotonic() < deadline and not enough():
            time.sleep(PERIOD / 4)
            now = self._signs(silent)
            if now is None:
                return None
            silent = [process for process, sign in zip(silent, now, strict=True) if sign == before[process]]
        return silent

    def _signs(self, processes: Sequence[Process]) -> list[str] | None:
        keys = [_key(process) for process in processes]
        return self.asked(lambda: [self.store.get(key).decode() if self.store.check([key]) else "" for key in keys])

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PERIOD):
            number += 1
            sign = str(number)
            self.asked(lambda sign=sign: self.store.set(_key(self.meeting.me), sign))  # type: ignore[misc]
            self._check()


def _key(process: Process) -> str:
    return f"sign-{process.rank}"
