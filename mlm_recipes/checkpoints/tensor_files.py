"""The files of a checkpoint that are pickles by their format: read as tensors and plain values, or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals  # what NumPy's generator consists of

#: Trainer pickles its arguments beside the model, and `hub_token` is among them. Nothing reads the file: it is removed
#: where it was written, not read where it comes from another trainer, and never uploaded.
PICKLED_ARGUMENTS = "training_args.bin"


def require_tensors_only(checkpoint: Path) -> None:
    """Raise ValueError for a checkpoint from which anything would be unpickled but tensors and plain values.

    torch's `weights_only=True` is the judge: each file is opened as Trainer will open it, its tensors' content aside,
    before anything of the run has changed. The weights must be safetensors.

    Sharded states (FSDP's, DeepSpeed's) are refused: torch and DeepSpeed unpickle part of them without that check.
    """
    what = f"resume_from_checkpoint: {str(checkpoint)!r}"
    anew = f"or start a new run from its weights, without --resume_from_checkpoint: --model {checkpoint}."
    unchecked = sorted([*checkpoint.glob("global_step*"), *checkpoint.glob("*/.metadata")])
    if unchecked:
        raise ValueError(
            f"{what} holds {unchecked[0].relative_to(checkpoint)}, a sharded state that is read by unpickling, which "
            "can run code. Accepted: a state in one piece (fsdp_state_dict_type: FULL_STATE_DICT). Save it so, " + anew
        )
    for path in sorted(path for ending in ("pt", "pth", "bin") for path in checkpoint.glob(f"*.{ending}")):
        if path.name == PICKLED_ARGUMENTS:
            continue
        try:
            with safe_globals():
                torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:  # a pickle that is not wanted, or is none: torch has a class for each
            raise ValueError(
                f"{what} holds {path.name}, which is not tensors and plain values alone ({_reason(error)}). Accepted: "
                "what MLMTrainer saved. Nothing of it was run: ask where the checkpoint comes from, and name another, "
                + anew
            ) from error
    if (checkpoint / "pytorch_model.bin").exists() and not any(checkpoint.glob("model*.safetensors")):
        raise ValueError(
            f"{what} holds its weights as pytorch_model.bin. Accepted: weights as safetensors, as MLMTrainer saves "
            "them. Name another checkpoint."
        )


def _reason(error: Exception) -> str:
    """Return of torch's page about it what was found.

    >>> _reason(ValueError("Weights only load failed.\\n WeightsUnpickler error: Unsupported class posix.system"))
    'Unsupported class posix.system'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = next((line for line in lines if "WeightsUnpickler error:" in line), lines[0])
    return found.partition("WeightsUnpickler error:")[2].strip() or found
