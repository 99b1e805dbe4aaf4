"""Locks of folders that one process at a time may use; the system releases them if the process is killed."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


def lock_of(path: Path) -> FileLock:
    """Return the lock of a file: the system's own, since a mark in a file would outlive a killed process."""
    return FileLock(path, fallback_to_soft=False)


def acquire(lock: FileLock, refusal: str, what: Path, other: str) -> None:
    """Take a lock; where files cannot be locked, warn that no `other` process or run must use `what`.

    Raises: OSError with `refusal` if another process holds it.
    """
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise OSError(refusal) from error
    except OSError as error:
        logger.warning("%s cannot be locked (%s). Make sure that no other %s uses it.", what, error, other)


def release(lock: FileLock) -> None:
    """Release a lock that is held, and remove its file."""
    if lock.is_locked:
        with suppress(OSError):  # Windows cannot remove an open file; there, releasing the lock removes it
            Path(lock.lock_file).unlink()
        lock.release()
