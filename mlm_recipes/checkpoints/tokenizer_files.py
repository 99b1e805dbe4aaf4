"""A saved tokenizer's files, so that earlier versions of transformers load them too."""

from __future__ import annotations

import json
import os
from pathlib import Path

#: What transformers 5 calls a tokenizer without a class of its own, and the name that 4 and 5 both know.
_NEW, _KNOWN = "TokenizersBackend", "PreTrainedTokenizerFast"


def use_known_class(folder: Path) -> None:
    """Write into a tokenizer's configuration the class that transformers 4 knows as well; do nothing without one.

    The file is replaced as a whole, so that no other process, and no kill, ever leaves or sees half of it.
    """
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # transformers 5 loads it as it is
        return
    if config.get("tokenizer_class") == _NEW:
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(config | {"tokenizer_class": _KNOWN}, indent=2, ensure_ascii=False) + "\n", "utf-8")
        os.replace(aside, path)
