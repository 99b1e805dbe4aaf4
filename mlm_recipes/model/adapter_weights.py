"""The files of an adapter: completed when they are saved, read into the model again, and merged into another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..sources.adapter_folder import WEIGHTS
from ..sources.escaping import first_line
from .lora import NAME, merge_lora

#: What peft writes before the name of each weight.
_PREFIX = "base_model.model."


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


def load_adapter_weights(model: Any, folder: Path) -> list[str]:
    """Read the adapter that `folder` holds into a model that has one of the same shape; return its weights' names.

    Raises: ValueError if they do not fit.
    """
    from peft import set_peft_model_state_dict

    held = {name.removeprefix(_PREFIX): value for name, value in load_file(folder / WEIGHTS, device="cpu").items()}
    try:
        found: Any = set_peft_model_state_dict(model, held, NAME)
    except (RuntimeError, KeyError) as error:
        raise _does_not_fit(folder, first_line(error)) from error
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    if wrong := [*trained.intersection(found.missing_keys), *found.unexpected_keys]:
        raise _does_not_fit(folder, min(wrong))
    return list(held)


def _does_not_fit(folder: Path, wrong: str) -> ValueError:
    return ValueError(
        f"the adapter in {str(folder)!r} does not fit the model ({wrong}). Accepted: an adapter of this model, with a "
        "masked-language-modelling head. Name the model that it was trained with."
    )


def merge_folder(model: Any, folder: Path) -> list[str]:
    """Merge the adapter that `folder` holds into a model's weights, in place; return the names of its weights.

    Raises: ValueError if it does not fit the model.
    """
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False  # otherwise its weights would not be known by their gradient
    model.add_adapter(config, NAME)
    names = load_adapter_weights(model, folder)
    merge_lora(model)
    return names
