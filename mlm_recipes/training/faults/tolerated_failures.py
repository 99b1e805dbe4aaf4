"""Optional outputs of a run: if one fails, the run still finishes, and reports what is missing.

After the last step the model is saved, then measured, then metrics.json is written. Everything else is for people to
look at (pages, trackers, the copy on the hub) or extra information (the machine's speed). Its failure must not lose
the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...metrics_file import Failure

logger = logging.getLogger(__name__)

#: The exit code of a run whose model is trained and saved, but whose later output is incomplete.
EXIT_CODE = 3


class NotMadeError(RuntimeError):
    """The model is trained and saved, but it could not be measured, or metrics.json could not be written."""


class NotMade:
    """The outputs that the run in `folder` could not make; only the `main` process reports them.

    `entries` is what metrics.json has under `not_made`.

    >>> not_made = NotMade(Path("runs/notes"), main=False)
    >>> with not_made.noting("report.html"):
    ...     raise ValueError("no such colour")
    >>> not_made.entries
    [{'what': 'report.html', 'why': 'ValueError: no such colour'}]
    """

    def __init__(self, folder: Path, main: bool = True) -> None:
        self.folder = folder
        self.entries: list[Failure] = []
        self._main = main

    @contextmanager
    def noting(self, what: str, next_step: str = "") -> Iterator[None]:
        """Report an error within `with`, and continue after it.

        Args:
            what: the name of the output, for the report.
            next_step: a sentence that says how to make it later.

        The block must not wait for other processes: after an error, they would wait forever. A KeyboardInterrupt is not
        caught.
        """
        try:
            yield
        except Exception as error:  # of any kind: it must not lose the run
            self.entries.append({"what": what, "why": why(error)})
            if self._main:
                then = f"The run continues without it. {next_step}".rstrip()
                _say(f"{what}: not made. {then} The error: {why(error)}")

    @contextmanager
    def trained(self) -> Iterator[None]:
        """If the run ends within `with`, report that the model is saved, and what to do with it.

        Raises: NotMadeError for any error; in all processes, if all call this.
        """
        where = f"The model is trained and saved in {self.folder}"
        measure = (
            f"`mlm-recipes evaluate {self.folder}` measures it. If there is a checkpoint, `mlm-recipes train "
            f"{self.folder} --resume_from_checkpoint true` makes everything that is missing, without training again."
        )
        try:
            yield
        except KeyboardInterrupt:
            if self._main:
                logger.error("%s; the rest of the run was interrupted. %s", where, measure)
            raise
        except Exception as error:
            raise NotMadeError(f"{where}, but the rest of the run failed: {why(error)}. {measure}") from error


def why(error: BaseException) -> str:
    """Return an error's type and message.

    >>> why(KeyError("gain"))
    "KeyError: 'gain'"
    """
    return f"{type(error).__name__}: {error}".strip().rstrip(".:")


def _say(what: str) -> None:
    """Log an error; with MLM_RECIPES_DEBUG=1 in the environment, with its traceback."""
    logger.error(what, exc_info=os.environ.get("MLM_RECIPES_DEBUG") == "1")
