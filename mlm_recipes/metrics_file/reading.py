"""Reads a metrics.json of any version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from .whole_file import SCHEMA_VERSION, Metrics

#: The keys in files of every version.
_ALWAYS = {"corpus", "before", "after", "train", "versions"}


def read(folder: str | Path, verb: str) -> Metrics:
    """Read the metrics.json of a finished run, of any version up to this library's.

    Args:
        folder: the run folder.
        verb: the command that reads it; error messages begin with it.

    A file of version 0 may lack keys that are required here. Raises: FileNotFoundError for a folder that is not a
    finished run's; ValueError if no run wrote the file, or if a later version of the library did.
    """
    for name in ("metrics.json", "recipe.yaml"):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"{verb}: {str(folder)!r} has no {name}. Accepted: the folder of a finished run, such as "
                "runs/meditations. Run `mlm-recipes train` first."
            )
    path = Path(folder) / "metrics.json"
    not_ours = ValueError(
        f"{verb}: {str(path)!r} does not hold a run's metrics. Accepted: JSON as in docs/metrics.md. "
        "Run `mlm-recipes train` again, or restore the file from a copy."
    )
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise not_ours from error
    version = metrics.get("schema_version", 0) if isinstance(metrics, dict) else None
    if not isinstance(version, int) or version < 0:
        raise not_ours
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{verb}: {str(path)!r} has schema_version {version}, so a later version of mlm-recipes wrote it. "
            f"Accepted: 0 (a file without schema_version) to {SCHEMA_VERSION}. Upgrade mlm-recipes."
        )
    if _ALWAYS - metrics.keys() or not metrics.keys() & {"gain", "not_made"}:
        raise not_ours
    return cast(Metrics, metrics)
