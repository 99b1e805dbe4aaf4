"""What a run says about how it was started and what it took: its command line, its peak memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..sources.credentials import HIDDEN, without_credentials
from ..sources.escaping import shell

#: Flags whose value is nobody else's business, in --flag value and --flag=value.
_SECRET = re.compile(r"^--[\w-]*(token|secret|password|api_key)[\w-]*", re.IGNORECASE)


def command_line(argv: Sequence[str] | None = None) -> str | None:
    """Return the command line that started this run, as a shell takes it; None where it was not one of ours.

    What a person typed is all there is: where the program lies is left out, and so are tokens and passwords.
    `argv` is by default that of this process.

    >>> command_line(["/opt/venv/bin/mlm-recipes", "train", "--corpus", "my notes.txt", "--hub_token=abc"])
    "mlm-recipes train --corpus 'my notes.txt' '--hub_token=***'"
    >>> command_line(["a_script.py"])
    """
    program, *given = sys.argv if argv is None else argv
    path = Path(program)
    if path.parts[-2:] == ("mlm_recipes", "__main__.py"):
        name = ["python", "-m", "mlm_recipes"]
    elif path.stem == "mlm-recipes":
        name = ["mlm-recipes"]
    else:
        return None
    kept: list[str] = []
    for word in given:
        if kept and _SECRET.match(kept[-1]) and "=" not in kept[-1] and not word.startswith("--"):
            word = HIDDEN
        elif _SECRET.match(word) and "=" in word:
            word = f"{word.split('=')[0]}={HIDDEN}"
        kept.append(without_credentials(word))
    return shell(*name, *kept)


def peak_memory(device: torch.device) -> dict[str, Any] | None:
    """Return the most memory that this process has had so far: `bytes`, and `of` what; None where nobody counts.

    >>> sorted(peak_memory(torch.device("cpu")) or {"bytes": 0, "of": "process"})
    ['bytes', 'of']
    """
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "gpu"}
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": peak if sys.platform == "darwin" else peak * 1024, "of": "process"}
