"""Reads which model the adapter in a folder belongs to; imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .missing_packages import is_installed, needs

#: The two files of an adapter, as peft writes them.
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """An adapter: the name or path of its `base` model as its file states it, and the base's `revision` on the hub."""

    base: str
    revision: str | None


def holds_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, which is no model of its own."""
    return (folder / CONFIG).exists()


def adapter_in(folder: Path, name: str) -> Adapter | None:
    """Return the adapter in a folder, or None if there is none; `name` is what the user called it.

    Raises: ValueError for one that cannot be used: not of LoRA, without safetensors, or whose base is not stated;
    MissingPackageError, a ValueError and an ImportError, if peft is not installed.
    """
    if not holds_adapter(folder):
        return None
    try:
        config: Any = json.loads((folder / CONFIG).read_text("utf-8"))
        base, kind, revision = config.get("base_model_name_or_path"), config.get("peft_type"), config.get("revision")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"model: {folder / CONFIG} cannot be read ({error}). Accepted: the file as peft writes it. Copy or "
            "download the adapter again."
        ) from error
    what = f"model: {name!r} holds an adapter of the model {str(base)!r}"
    if not is_installed("peft"):
        accepted = "Accepted: a complete model, such as the adapter merged by peft's merge_and_unload."
        raise needs(f"{what}. Reading it", ["peft"], accepted)
    if kind != "LORA" or config.get("megatron_config"):
        found = f"of the kind {kind}" if kind != "LORA" else "that was trained with Megatron"
        raise ValueError(
            f"{what}, {found}. Accepted: one of the kind LORA. Merge the two with peft's merge_and_unload, save the "
            "result with save_pretrained, and name that folder."
        )
    if not (folder / WEIGHTS).exists():
        raise ValueError(
            f"{what}, without {WEIGHTS}. Accepted: an adapter whose weights are safetensors, since others can run code "
            "when they are read. Save it again with save_pretrained, where it can do no harm to read it."
        )
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"model: {name!r} holds an adapter that does not say of which model. Accepted: one whose {CONFIG} names "
            "it. Write the model's name or path there, as base_model_name_or_path."
        )
    return Adapter(base, revision if isinstance(revision, str) else None)
