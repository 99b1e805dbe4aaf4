"""What processes that were launched together tell one another when one of them fails or ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..report.printing import say
from .screen import shown


def several() -> bool:
    """Return whether this process is one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def end_with_the_others() -> None:
    """Let the failure of another process end this one."""
    from ..training.distributed.failing_together import end_with

    def end(message: str | None, code: int, leave: Callable[[], None]) -> None:
        if message is not None:
            say(f"mlm-recipes: error: {shown(message)}", error=True)
        leave()
        os._exit(code)  # the main thread waits for the other process, and runs no Python

    end_with(end)


def caused_elsewhere(error: BaseException) -> tuple[str | None, int] | None:
    """Return what this process prints of another one's failure, and its exit code; None if the error is its own."""
    if not several():
        return None
    from ..training.distributed.failing_together import caused_elsewhere

    return caused_elsewhere(error)


def told_to_all(message: str, code: int) -> tuple[str | None, int]:
    """Tell the other processes of this one's error; return what it prints, and its exit code."""
    if not several():
        return message, code
    from ..training.distributed.failing_together import own_failure

    return own_failure(message, code)


def leave_the_others() -> None:
    """After a failure of which all were told, end this process's part in what they do together."""
    if several():
        from ..training.distributed.failing_together import leave

        leave()


def leave_process_group() -> None:
    """Leave torch's process group, if torch was imported at all."""
    if "torch" in sys.modules:
        from ..training.distributed.processes import leave_process_group

        leave_process_group()
