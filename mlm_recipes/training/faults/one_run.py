"""One training at a time in a process, since all of its threads draw from the same random numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Held by the thread that trains. It may train again before it is done: `train_minutes` times a few steps first.
_TRAINING = threading.RLock()
_thread = [""]


@contextmanager
def only_run() -> Iterator[None]:
    """Within `with`, let no other thread of this process train.

    torch's random numbers, which dropout draws from, and accelerate's state belong to the process: of two runs at once
    neither would be the one that its seed describes.

    Raises: ValueError if another thread is training.

    >>> with only_run():
    ...     print("the only one")
    the only one
    """
    if not _TRAINING.acquire(blocking=False):
        raise ValueError(
            f"train: another run is going on in this process, in the thread {_thread[0]!r}. Accepted: one at a time, "
            "since the threads of a process share the random numbers, and neither run would be the one that its seed "
            "describes. Wait for that run, or start this one in a process of its own."
        )
    try:
        _thread[0] = threading.current_thread().name
        yield
    finally:
        _TRAINING.release()
