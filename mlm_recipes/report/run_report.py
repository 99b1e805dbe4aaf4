"""The files of a run that are drawn from its metrics, for people to read; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from .. import metrics_file
from ..metrics_file import Metrics
from ..sources.escaping import in_all, one_line
from .model_card import card
from .report_page import page

#: The files drawn from metrics.json, and the functions that draw them.
FILES: dict[str, Callable[[Metrics], str]] = {"report.html": page, "README.md": card}


def write(folder: str | Path, names: Iterable[str] = ("report.html", "README.md")) -> list[Path]:
    """Draw a run's report.html and README.md (the model card) from its metrics.json, or only those in `names`.

    Returns the paths written. Raises FileNotFoundError if metrics.json is missing, or recipe.yaml, which the card
    mentions; ValueError for a metrics.json that no run has written.
    """
    folder = Path(folder)
    metrics = read_metrics(folder)
    written = []
    for name in names:
        (folder / name).write_text(FILES[name](metrics), encoding="utf-8")
        written.append(folder / name)
    return written


def read_metrics(folder: str | Path, verb: str = "report") -> Metrics:
    """Return a finished run's metrics.json, with its strings made safe to show; `verb` is the command that reads it.

    Raises: FileNotFoundError for a folder that is not a finished run's; ValueError for a metrics.json that no run has
    written, that a later version wrote, or that has no comparison.
    """
    folder = Path(folder)
    metrics = metrics_file.read(folder, verb)
    if "gain" not in metrics:
        failed = "; ".join(f"{entry['what']}: {entry['why']}" for entry in metrics["not_made"])
        raise ValueError(
            f"{verb}: {str(folder / 'metrics.json')!r} has the figures before and after but no comparison, which "
            f"failed: {one_line(failed)}. Accepted: metrics with a comparison. "
            f"`mlm-recipes evaluate {folder}` measures the model again."
        )
    return in_all(metrics, one_line)
