"""What a run can do without: where such a piece fails, the run is finished all the same, and says what it lacks.

When the last step is done, the model is put on the disk, then measured, then metrics.json is written. All else is for
people to look at (pages, trackers, the copy on the hub), or a remark (how fast this machine is): none of it may lose a
run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

#: The exit code of a run whose model is trained and on the disk, but which lacks something that follows.
EXIT_CODE = 3


class NotMadeError(RuntimeError):
    """The model is trained and on the disk; it could not be measured, or metrics.json could not be written."""


class NotMade:
    """What the run in `folder` could not make; only the `main` process speaks of it.

    `entries` are what metrics.json has under `not_made`.

    >>> not_made = NotMade(Path("runs/notes"), main=False)
    >>> with not_made.noting("report.html"):
    ...     raise ValueError("no such colour")
    >>> not_made.entries
    [{'what': 'report.html', 'why': 'ValueError: no such colour'}]
    """

    def __init__(self, folder: Path, main: bool = True) -> None:
        self.folder = folder
        self.entries: list[dict[str, str]] = []
        self._main = main

    @contextmanager
    def noting(self, what: str, next_step: str = "") -> Iterator[None]:
        """Let what happens while `with` lasts fail: say so, and go on after it.

        Args:
            what: what is not made then, as the sentence about it names it.
            next_step: a sentence that says how to make it after all.

        There must be nothing within that processes do together: the others would wait. A KeyboardInterrupt is no
        failure and passes.
        """
        try:
            yield
        except Exception as error:  # whatever it is, the run is worth more
            self.entries.append({"what": what, "why": why(error)})
            if self._main:
                then = f"The run goes on without it. {next_step}".rstrip()
                _say(f"{what}: not made. {then} What happened: {why(error)}")

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Whatever ends the run while `with` lasts, say that the model is on the disk, and what to do with it.

        Raises: NotMadeError for any error; in all processes, if all call this.
        """
        where = f"The model is trained, and whole in {self.folder}"
        measure = (
            f"`mlm-recipes evaluate {self.folder}` measures it; where there is a checkpoint, `mlm-recipes train "
            f"{self.folder} --resume_from_checkpoint true` makes all that is missing, without training again."
        )
        try:
            yield
        except KeyboardInterrupt:
            if self._main:
                logger.error("%s; what follows was interrupted. %s", where, measure)
            raise
        except Exception as error:
            said = f"{where}, but what follows failed: {why(error)}. {measure}"
            if not self._main:  # it may fail alone, and the command line has the main process speak for all
                _say(said)
            raise NotMadeError(said) from error


def why(error: BaseException) -> str:
    """Return an error's kind and what it says.

    >>> why(KeyError("gain"))
    "KeyError: 'gain'"
    """
    return f"{type(error).__name__}: {error}".strip().rstrip(".:")


def _say(what: str) -> None:
    """Say it as an error; with MLM_RECIPES_DEBUG=1 in the environment it keeps its traceback."""
    logger.error(what, exc_info=os.environ.get("MLM_RECIPES_DEBUG") == "1")
