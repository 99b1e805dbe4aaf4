"""Checkpoints that other programs saved: what they are, and how to go on from their weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The name of the callback whose state marks a checkpoint as one of MLMTrainer's.
_CONTRACT = "ResumeContract"


@dataclass(frozen=True)
class Foreign:
    """A folder of another program: `what` it is, and the `next_step`, a sentence that says how to use its weights."""

    what: str
    next_step: str


def foreign(folder: Path) -> Foreign | None:
    """Return what another program's checkpoint is; None for one of MLMTrainer's, damaged or not, and for anything else.

    >>> foreign(Path("nowhere")) is None
    True
    """
    if not folder.is_dir() or _is_ours(folder):
        return None
    what = _program(folder)
    return None if what is None else Foreign(what, _next_step(folder))


def newest_foreign(folder: Path) -> tuple[Path, Foreign] | None:
    """Return the newest of another program's checkpoints in a folder, or None if there is none."""
    inner = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    found = [(path, what) for path in inner if (what := foreign(path)) is not None]
    return max(found, key=lambda pair: pair[0].stat().st_mtime, default=None)


def _is_ours(folder: Path) -> bool:
    return _CONTRACT in (_state(folder).get("stateful_callbacks") or {})


def _state(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _program(folder: Path) -> str | None:
    trainer = _state(folder)
    if any(folder.glob("global_step*")) or (folder / "zero_to_fp32.py").exists():
        return "a checkpoint of DeepSpeed"
    if _sharded(folder) is not None:
        return "a checkpoint with a sharded state (FSDP)"
    if trainer:
        return "a checkpoint of transformers' Trainer"
    if any(folder.glob("random_states_*.pkl")) or (folder / "optimizer.bin").exists():
        return "a state that accelerate saved"
    if any(folder.glob("*.ckpt")):
        return "a folder with a checkpoint of PyTorch Lightning"
    if (folder / "config.json").exists() and any(folder.glob("model*.safetensors")) and not _is_run(folder):
        return "a model without the state of a training"
    return None


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.yaml").exists()


def _sharded(folder: Path) -> Path | None:
    """Return the folder with the shards of the model's weights, or None if there is none."""
    if (folder / ".metadata").exists():
        return folder
    shards = [path.parent for path in folder.glob("*/.metadata") if not path.parent.name.startswith("optimizer")]
    return min(shards, default=None)


def _next_step(folder: Path) -> str:
    if any(folder.glob("model*.safetensors")):
        anew = f"Start a new run from its weights, without --resume_from_checkpoint: --model {folder}"
        lacking = _lacking(folder)
        return (
            f"{anew}, after copying {lacking} of the model that it was trained from into it." if lacking else anew + "."
        )
    beside = f"copy {_lacking(folder) or 'config.json and the tokenizer of ' + str(folder)} into NEW"
    then = f"Then {beside}, and start a new run: --model NEW"
    if (folder / "zero_to_fp32.py").exists():
        command = f"python {folder / 'zero_to_fp32.py'} {folder} NEW --safe_serialization"
        return f"Join its weights, where it can do no harm that this unpickles them: {command} . {then}."
    if (shards := _sharded(folder)) is not None:
        return (
            "Join its weights, where it can do no harm that this unpickles them: accelerate merge-weights "
            f"{shards} NEW . {then}."
        )
    if (folder / "adapter_model.safetensors").exists():
        return (
            "It holds an adapter only. Merge it into its model with peft's merge_and_unload(), save that as NEW, and "
            "start a new run: --model NEW."
        )
    pickled = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith(("pytorch_model", "model")))
    if pickled:
        return (
            f'Convert {pickled[0]}, where it can do no harm that this unpickles it: python -c "from transformers '
            f"import AutoModelForMaskedLM as M; M.from_pretrained('{folder}').save_pretrained('NEW')\" . {then}."
        )
    return "Save its model with save_pretrained, and start a new run: --model NEW."


def _lacking(folder: Path) -> str:
    """Return which files a model's folder needs besides its weights and does not have."""
    lacking = [] if (folder / "config.json").exists() else ["config.json"]
    if not any(any(folder.glob(name)) for name in ("tokenizer*", "vocab.*", "*.model")):
        lacking.append("the tokenizer's files")
    return " and ".join(lacking)
