"""From an error or an interruption to one sentence for the user and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..report.printing import say
from ..sources.escaping import first_line
from ..sources.missing_packages import missing_package
from ..training.faults import tolerated_failures
from ..training.faults.tolerated_failures import NotMadeError
from .other_processes import caused_elsewhere, leave_the_others, told_to_all
from .screen import shown

#: The flag of every verb, and the variable of the environment, that show an error's traceback.
TRACEBACK, DEBUG = "--traceback", "MLM_RECIPES_DEBUG"


def failed(error: Exception, given: Sequence[str], tracebacks: bool) -> int:
    """Print an error, tell the other processes of it, if there are any, and return the exit code."""
    told = None if isinstance(error, NotMadeError) else caused_elsewhere(error)
    if told is None:
        message, code = _for_the_user(error), 2
        if isinstance(error, NotMadeError):
            code = tolerated_failures.EXIT_CODE
        if message is None:
            message, code = _unexpected(error, given, write=not tracebacks), 1
        told = told_to_all(message, code)
    if tracebacks:
        raise error
    if told[0] is not None:
        say(f"mlm-recipes: error: {shown(told[0])}", error=True)
    leave_the_others()
    return told[1]


def interrupted(interrupt: KeyboardInterrupt) -> int:
    """Say that the command was interrupted, and return the exit code."""
    said = str(interrupt)  # set by mlm_recipes.training.faults.stop_signals.Interrupted: a checkpoint was saved
    if not said:
        told, code = told_to_all("interrupted", 130)
        if told is not None:
            say(f"mlm-recipes: {told}", error=True)
        return code
    if os.environ.get("RANK", "0") == "0":
        say(f"mlm-recipes: {said}", error=True)
    from ..training.faults.stop_signals import EXIT_CODE

    return EXIT_CODE


def _for_the_user(error: Exception) -> str | None:
    """Return the message of an error that the user can fix, or that the run has explained; None for any other.

    Not the error itself: the caller's frame, which is in its traceback, would keep it and what it holds alive.
    """
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:  # Python's own
        return (
            f"{error.filename}: {error.strerror}. Accepted: files and folders that this user may read and write, on a "
            "disk with enough space. Check the path and its permissions."
        )
    if isinstance(error, ValueError | OSError | MemoryError | NotMadeError):
        return str(error)
    if isinstance(error, ImportError):
        missing = missing_package(error, "this command", "Accepted: values for which no other package is needed.")
        return None if missing is None else str(missing)
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from ..training.faults.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            return (
                f"memory: {first_line(error)}. Accepted: a run that fits into this machine's memory. Lower "
                "--per_device_train_batch_size, --per_device_eval_batch_size or --max_length, or take a smaller model."
            )
    return None


def _unexpected(error: Exception, given: Sequence[str], write: bool) -> str:
    """Keep the traceback of an error that nobody expected, if asked to `write` it, and return a sentence about it.

    Every process does this, since one may fail alone.
    """
    from ..report.unexpected_error import keep, sentence

    if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun's agent reads the first process's error from there
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        with suppress(OSError):
            get_error_handler().record_exception(error)
    return sentence(error, keep(error, given) if write else None)


@contextmanager
def shown_tracebacks(asked: bool) -> Iterator[bool]:
    """Within `with`, show the tracebacks of tolerated failures too, if `asked`; yield whether they are shown."""
    before = os.environ.get(DEBUG)
    if asked:
        os.environ[DEBUG] = "1"
    try:
        yield os.environ.get(DEBUG) == "1"
    finally:
        if asked:
            os.environ.pop(DEBUG)
            os.environ |= {} if before is None else {DEBUG: before}
