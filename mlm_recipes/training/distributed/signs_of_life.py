"""Signs of life of processes that train together, which tell who does not answer when the others wait in vain.

Each process writes a sign into the store of their meeting every second, from a thread, since a process that waits for
another one runs no Python.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .meeting import Meeting, Process

T = TypeVar("T")

#: Seconds between two signs of life.
PERIOD = 1.0

#: Seconds after which a process that gives no sign is called silent, once something has failed.
SILENCE = 5.0

#: Seconds that the store may take to answer.
_PATIENCE = 30.0

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
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
        self.store.set(_key(meeting.me), "0")

    def begin(self) -> None:
        """Begin to give signs, and to call `check`."""
        self._thread.start()

    def end(self) -> None:
        """End that, and say that this process has left, so that its silence means nothing."""
        if self.ended:
            return
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(PERIOD)
        self.asked(lambda: self.store.set(_key(self.meeting.me), _LEFT))

    def have_left(self, processes: Sequence[Process]) -> bool:
        """Return whether these have left."""
        return {*self._signs(processes)} <= {_LEFT}

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._stop.is_set()

    def asked(self, ask: Callable[[], T]) -> T | None:
        """Return what the store answers; None if it does not answer: its process or its machine is gone."""
        try:
            return ask()
        except RuntimeError:  # torch's own kinds of it, for stores and connections
            return None

    def silent_for(self, seconds: float, processes: Sequence[Process]) -> list[Process]:
        """Return those of `processes` whose sign has not changed for so long, as far as earlier calls have seen."""
        now = time.monotonic()
        if now - self._looked > SILENCE:  # this process itself was stopped, perhaps together with the others
            self._changed.clear()
        self._looked = now
        for process, sign in zip(processes, self._signs(processes), strict=True):
            if process.rank not in self._changed or self._changed[process.rank][0] != sign:
                self._changed[process.rank] = sign, now
        found = [(process, *self._changed[process.rank]) for process in processes]
        return [process for process, sign, since in found if sign != _LEFT and now - since > seconds]

    def look_round(self, enough: Callable[[], Any]) -> list[Process] | None:
        """Return which of the others give no sign for SILENCE seconds, or None if the store does not answer.

        It ends early when `enough` returns something.
        """
        found: list[list[Process]] = []
        looking = threading.Thread(target=lambda: self.asked(lambda: found.append(self._silent(enough))), daemon=True)
        looking.start()  # in a thread, since a cut link may keep it for long
        looking.join(2 * SILENCE)
        return found[0] if found else None

    def _silent(self, enough: Callable[[], Any]) -> list[Process]:
        silent = [process for process in self.meeting.processes if process != self.meeting.me]
        before = dict(zip(silent, self._signs(silent), strict=True))
        silent = [process for process in silent if before[process] != _LEFT]
        deadline = time.monotonic() + SILENCE
        while silent and time.monotonic() < deadline and not enough():
            time.sleep(PERIOD / 4)
            now = self._signs(silent)
            silent = [process for process, sign in zip(silent, now, strict=True) if sign == before[process]]
        return silent

    def _signs(self, processes: Sequence[Process]) -> list[str]:
        keys = [_key(process) for process in processes]
        return [self.store.get(key).decode() if self.store.check([key]) else "" for key in keys]

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PERIOD):
            number += 1
            try:
                self.store.set(_key(self.meeting.me), str(number))
                self._check()
            except RuntimeError:  # the store is gone, and so is who wrote there: what waits for them will fail
                return


def _key(process: Process) -> str:
    return f"sign-{process.rank}"
