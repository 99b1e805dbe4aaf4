"""The pickled files of a checkpoint: read only if they hold nothing but tensors and plain values."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals  # allows the state of NumPy's generator

#: Trainer pickles its arguments, including `hub_token`, beside the model. This library removes that file after it is
#: written, does not read it in a checkpoint of another trainer, and never uploads it.
PICKLED_ARGUMENTS = "training_args.bin"


def require_tensors_only(checkpoint: Path) -> None:
    """Raise ValueError for a checkpoint that would unpickle anything except tensors and plain values.

    torch's `weights_only=True` decides: each file is opened as Trainer will open it, but without the tensors' content,
    before the run changes anything. The weights must be safetensors.

    Sharded states of other programs (FSDP, DeepSpeed) are refused: torch and DeepSpeed unpickle part of them without
    that check. Those of `mlm_recipes.checkpoints.sharded_states` contain no pickle.
    """
    what = f"resume_from_checkpoint: {str(checkpoint)!r}"
    anew = f"or start a new run from its weights, without --resume_from_checkpoint: --model {checkpoint}."
    unchecked = sorted([*checkpoint.glob("global_step*"), *checkpoint.glob("*/.metadata")])
    if unchecked:
        raise ValueError(
            f"{what} holds {unchecked[0].relative_to(checkpoint)}, a sharded state that is read by unpickling, which "
            "can run code. Accepted: a checkpoint saved by MLMTrainer. Name another, " + anew
        )
    for path in sorted(path for ending in ("pt", "pth", "bin") for path in checkpoint.glob(f"*.{ending}")):
        if path.name == PICKLED_ARGUMENTS:
            continue
        try:
            with safe_globals():
                torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:  # an unsafe pickle, or not a pickle: torch raises a different class for each
            raise ValueError(
                f"{what} holds {path.name}, which is not only tensors and plain values ({_reason(error)}). Accepted: a "
                "checkpoint saved by MLMTrainer. No code in it was run. Check where the checkpoint comes from, and "
                "name another, " + anew
            ) from error
    if (checkpoint / "pytorch_model.bin").exists() and not any(checkpoint.glob("model*.safetensors")):
        raise ValueError(
            f"{what} holds its weights as pytorch_model.bin. Accepted: weights as safetensors, as MLMTrainer saves "
            "them. Name another checkpoint."
        )


def _reason(error: Exception) -> str:
    """Return the cause from torch's long error message.

    >>> _reason(ValueError("Weights only load failed.\\n WeightsUnpickler error: Unsupported class posix.system"))
    'Unsupported class posix.system'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = next((line for line in lines if "WeightsUnpickler error:" in line), lines[0])
    return found.partition("WeightsUnpickler error:")[2].strip() or found
