"""What the screen shows: our messages, warnings of other libraries, and nothing that controls a terminal."""

from __future__ import annotations

import logging
import os

from ..report.printing import say
from ..sources.credentials import without_credentials
from ..sources.escaping import terminal


def shown(what: object) -> str:
    """Return text that is safe to print: without terminal control characters and without credentials in URLs."""
    return terminal(without_credentials(str(what)))


def quiet_libraries() -> None:
    """Show this library's messages, and only warnings from the others; no progress bar for each file that is read."""
    # setdefault, so that the user's own settings win.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # No telemetry: datasets reports each load to s3.amazonaws.com, and huggingface_hub reports its callers.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow, as a tracker, reports to its developers
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    log = logging.getLogger("mlm_recipes")
    if not log.handlers:
        log.addHandler(_Screen())
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)


class _Screen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.levelno >= logging.ERROR
        say(f"{'mlm-recipes: error: ' if error else ''}{shown(self.format(record))}", error)
