"""The files of an adapter: completed when they are saved, read into the model again, and merged into another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..sources.adapter_folder import WEIGHTS
from .lora import NAME


@contextmanager
def named_when_saved(model: Any) -> Iterator[None]:
    """Hide the name of the base model within `with`, in which the adapter is saved.

    Each time, peft asks the hub for the config of a base with a name, to find out whether the vocabulary has grown.
    `complete_config` then writes the name.
    """
    config = model.peft_config[NAME]
    name, config.base_model_name_or_path = config.base_model_name_or_path, None
    try:
        yield
    finally:
        config.base_model_name_or_path = name


def complete_config(model: Any, folder: Path) -> None:
    """Write adapter_config.json again, with the name of the base model."""
    model.peft_config[NAME].save_pretrained(str(folder))


def load_adapter_weights(model: Any, folder: Path) -> None:
    """Read the adapter that `folder` holds into a model that has one of the same shape.

    Raises: ValueError if they do not fit.
    """
    from peft import set_peft_model_state_dict

    try:
        found = set_peft_model_state_dict(model, load_file(folder / WEIGHTS, device="cpu"), NAME)
        unexpected = list(found.unexpected_keys)
    except (RuntimeError, KeyError) as error:
        raise _does_not_fit(folder) from error
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    if unexpected or trained.intersection(found.missing_keys):
        raise _does_not_fit(folder)


def _does_not_fit(folder: Path) -> ValueError:
    return ValueError(
        f"resume_from_checkpoint: {str(folder)!r} holds another adapter than the one that is trained. Accepted: the "
        "checkpoint of a run with the same model, lora_r and lora_target_modules. Restore these values."
    )


def merge_folder(model: Any, folder: Path) -> tuple[Any, list[str]]:
    """Return a model with the adapter that `folder` holds merged into its weights, and the names of the weights in it.

    Raises: whatever peft raises for an adapter that does not fit the model.
    """
    from peft import PeftModel

    wrapper = PeftModel.from_pretrained(model, str(folder))
    merged = wrapper.merge_and_unload()
    merged.requires_grad_(True)
    held = load_file(folder / WEIGHTS, device="cpu")
    return merged, [key.removeprefix("base_model.model.") for key in held]
