"""A saved tokenizer's files, so that earlier versions of transformers load them too."""

from __future__ import annotations

import json
from pathlib import Path

#: What transformers 5 calls a tokenizer without a class of its own, and the name that 4 and 5 both know.
_NEW, _KNOWN = "TokenizersBackend", "PreTrainedTokenizerFast"


def use_known_class(folder: Path) -> None:
    """Write into a tokenizer's configuration the class that transformers 4 knows as well; do nothing without one.

    Only the process that saves may call this: another one might read a file that is being written.
    """
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return
    config = json.loads(path.read_text("utf-8"))
    if config.get("tokenizer_class") == _NEW:
        path.write_text(json.dumps(config | {"tokenizer_class": _KNOWN}, indent=2, ensure_ascii=False) + "\n", "utf-8")
