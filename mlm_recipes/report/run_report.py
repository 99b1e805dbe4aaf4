"""What a run leaves for people to read: the last screen, and the files drawn from its metrics; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from ..sources.escaping import in_all, one_line
from .model_card import card
from .page import page

#: What is drawn from metrics.json, and by what.
FILES: dict[str, Callable[[dict[str, Any]], str]] = {"report.html": page, "README.md": card}


def write(folder: str | Path, names: Iterable[str] = ("report.html", "README.md")) -> list[Path]:
    """Draw report.html and README.md (the model card) of a run from its metrics.json, or those that `names` says.

    Returns the paths written. Raises FileNotFoundError where that, or the recipe.yaml the card speaks of, is missing;
    ValueError for a metrics.json that is not what a run writes.
    """
    folder = Path(folder)
    metrics = read_metrics(folder)
    written = []
    for name in names:
        (folder / name).write_text(FILES[name](metrics), encoding="utf-8")
        written.append(folder / name)
    return written


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Return what a finished run's metrics.json holds, its strings made harmless to look at.

    Raises: FileNotFoundError for a folder that is not a finished run's; ValueError for a metrics.json that is not one.
    """
    folder = Path(folder)
    for name in ("metrics.json", "recipe.yaml"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"report: {str(folder)!r} has no {name}. Accepted: the folder of a finished run, such as "
                "runs/meditations. Run `mlm-recipes train` first."
            )
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        missing = {"corpus", "before", "after", "gain", "train", "versions"} - metrics.keys()
        failed = {str(entry["what"]): entry["why"] for entry in metrics.get("not_made", [])}
    except (ValueError, AttributeError, KeyError, TypeError):
        missing, failed = {"everything"}, {}
    if missing == {"gain"} and failed:
        raise ValueError(
            f"report: {str(folder / 'metrics.json')!r} has before and after but no comparison of the two, which "
            f"failed: {one_line('; '.join(map(': '.join, failed.items())))}. Accepted: the metrics of a run that was "
            f"compared. `mlm-recipes evaluate {folder}` measures its model again."
        )
    if missing:
        raise ValueError(
            f"report: {str(folder / 'metrics.json')!r} is not what a run writes. Accepted: JSON as in docs/metrics.md. "
            "Run `mlm-recipes train` again, or take the file from a copy."
        )
    return cast(dict[str, Any], in_all(metrics, one_line))
