"""Loads a checkpoint whose weights have other names than the model's own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .load_report import without_load_report
from .sharded_weights import copy_weights


def load_renamed(model: Any, folder: str | Path, absent: Collection[str]) -> None:
    """Load all weights of a checkpoint into `model`, which lacks `absent` by their own names.

    `save_pretrained` gives weights the names that they had in the checkpoint that the model was loaded from, or that
    its architecture had in earlier versions: LayerNorm's `gamma` and `beta` in google-bert/bert-base-uncased and ESM.
    `from_pretrained` translates them back, `load_state_dict`, which Trainer resumes with, does not (transformers 5.23).

    Raises: ValueError if the checkpoint has not got them under any name.
    """
    found: Any = None
    if isinstance(model, PreTrainedModel):
        loaded: Any = type(model).from_pretrained
        with without_load_report():
            found, report = loaded(
                folder, dtype=model.dtype, output_loading_info=True, use_safetensors=True, local_files_only=True
            )
        absent = report["missing_keys"]
    if absent:
        raise ValueError(
            f"{folder}: the checkpoint lacks weights of {type(model).__name__}: {', '.join(sorted(absent)[:3])}"
            f"{' and others' if len(absent) > 3 else ''}. Accepted: a checkpoint with all of them. Use an earlier one."
        )
    copy_weights(model, found.state_dict().items())
