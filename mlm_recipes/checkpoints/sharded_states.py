"""An optimizer's state that several processes hold in shares, as safetensors and JSON: written and read in shares.

torch's distributed checkpoints (DCP) write and read the tensors, with their reader and writer of safetensors. Their
usual format keeps an index in a pickle; this one contains none. Each process writes its shares, and any number of
processes read those they need, whether they divide their weights or not.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint

dcp: Any = torch.distributed.checkpoint  # its names are not typed as exported

#: The folder within a checkpoint; resume_contract.py looks for a name that begins with "optimizer".
FOLDER = "optimizer_shards"

#: What an optimizer's state holds besides tensors, within that folder.
VALUES = "values.json"

#: Between the name of a weight and that of its state: `bert.embeddings.LayerNorm.bias|exp_avg`.
_JOINT = "|"

State = dict[str, dict[str, Any]]


def has_shards(checkpoint: Path) -> bool:
    """Tell whether a checkpoint holds its optimizer's state in shares.

    >>> has_shards(Path("nowhere"))
    False
    """
    return (checkpoint / FOLDER / VALUES).exists()


def save_state(checkpoint: Path, state: State, groups: list[dict[str, Any]], main: bool) -> None:
    """Write an optimizer's state; all processes call this.

    Args:
        checkpoint: the folder of the checkpoint.
        state: by each weight's name, its state: tensors (DTensors are written in shares), numbers and None.
        groups: the optimizer's parameter groups, with names under `params`.
        main: whether this process writes what is not a tensor.

    Raises: OSError; TypeError for a value that JSON does not know.
    """
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name + _JOINT + key: value
        for name, values in state.items()
        for key, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    with _also_alone():
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    if main:
        plain = {
            name: {key: value for key, value in values.items() if not isinstance(value, torch.Tensor)}
            for name, values in state.items()
        }
        text = json.dumps({"groups": groups, "state": plain}, indent=1)
        (folder / VALUES).write_text(text + "\n", encoding="utf-8")


def load_state(checkpoint: Path, weights: Mapping[str, torch.Tensor]) -> tuple[State, list[dict[str, Any]]]:
    """Read an optimizer's state and its parameter groups; all processes call this.

    A tensor of a weight's shape is divided as that weight is; any other is whole in each process.

    Args:
        checkpoint: the folder of the checkpoint.
        weights: the weights whose state is read, by their names.

    Raises: ValueError if the state belongs to other weights; OSError.
    """
    folder = checkpoint / FOLDER
    values = json.loads((folder / VALUES).read_text("utf-8"))
    reader = dcp.HuggingFaceStorageReader(str(folder))
    saved: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
    found: State = {name: dict(plain) for name, plain in values["state"].items()}
    tensors: dict[str, torch.Tensor] = {}
    for joint, facts in saved.items():
        name, _, key = joint.rpartition(_JOINT)
        like = weights.get(name)
        if like is None:
            continue
        if facts.size == like.shape:
            made = torch.zeros_like(like, dtype=facts.properties.dtype, requires_grad=False)
        else:
            made = torch.zeros(facts.size, dtype=facts.properties.dtype)
        tensors[joint] = found.setdefault(name, {})[key] = made
    unknown = sorted(found.keys() - weights.keys())
    if unknown:
        raise ValueError(
            f"resume_from_checkpoint: {str(checkpoint)!r} holds the optimizer's state of {unknown[0]}, which this "
            "model does not train. Accepted: a checkpoint of the same model. Name another."
        )
    with _also_alone():
        dcp.load(tensors, storage_reader=reader)
    return found, values["groups"]


@contextmanager
def _also_alone() -> Iterator[None]:
    """Silence torch's warning that a single process reads or writes, which is intended."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
