"""The adapter that a config asks for: checks its values, and adds it to a model."""

from __future__ import annotations

from typing import Any

from ...model.loading import missing_weights, starts_random
from ...model.lora import Lora, add_lora, has_adapter
from ...sources.missing_packages import is_installed, needs
from ...sources.model_folder import source_of
from ..distributed.launcher import asked_sharding


def check_adapter(config: Any) -> None:
    """Raise ValueError for the first value of an adapter that is out of range or conflicts with another value.

    Raises: MissingPackageError, a ValueError and an ImportError, if peft is needed and not installed.
    """
    if config.peft not in ("none", "lora"):
        raise ValueError(f"peft: received {config.peft!r}. Accepted: none or lora. Leave it out to train everything.")
    if config.lora_r < 1:
        raise ValueError(f"lora_r: received {config.lora_r}. Accepted: 1 or more. Try 16.")
    if not config.lora_alpha > 0:
        raise ValueError(f"lora_alpha: received {config.lora_alpha}. Accepted: a number above 0. Try 32.")
    if not 0 <= config.lora_dropout < 1:
        raise ValueError(f"lora_dropout: received {config.lora_dropout}. Accepted: 0 up to, but not, 1. Try 0.")
    if not config.lora_target_modules:
        raise ValueError(
            "lora_target_modules: received nothing. Accepted: all-linear, attention, or names of layers such as query "
            "value. Leave it out for all-linear."
        )
    if config.peft == "none":
        if config.lora_merge:
            raise ValueError(
                "lora_merge: received True with peft 'none'. Accepted: True with --peft lora, since there is nothing "
                "to merge otherwise. Leave it out."
            )
        return
    if not is_installed("peft"):
        raise needs("peft: 'lora'", ["peft"], "Accepted: none, which trains the whole model.")
    if asked_sharding(config):
        raise ValueError(
            f"peft: received 'lora' with {asked_sharding(config)}. Accepted: lora without it, since an adapter needs "
            "little memory, and sharding it was not tried. Leave one of them out."
        )
    # Each of these trains or changes weights beside the adapter, which would not be saved with it.
    for name in ("freeze", "layerwise_lr_decay", "head_warmup_steps", "add_tokens", "extend_positions"):
        value, default = getattr(config, name), type(config).__dataclass_fields__[name].default
        if value != default:
            raise ValueError(
                f"{name}: received {value!r} with peft 'lora'. Accepted: {default!r}, since the model's own weights "
                "stay as they are. Leave one of them out."
            )
    if config.push_to_hub and config.lora_merge is False and source_of(config.model) != "hub":
        raise ValueError(
            f"lora_merge: received False with push_to_hub and the model {config.model!r}, which is not on the hub. "
            "Accepted: true, since nobody else could use the adapter. Leave it out."
        )


def layer_names(value: str | list[str] | None) -> str:
    """Return `lora_target_modules` in the one form in which runs are compared: names with a space between them.

    >>> layer_names(["query", "value"]), layer_names("query, value"), layer_names(None)
    ('query value', 'query value', 'all-linear')
    """
    if value is None:
        return "all-linear"
    parts = [value] if isinstance(value, str) else value
    return " ".join(name for part in parts for name in part.replace(",", " ").split())


def merges(config: Any) -> bool:
    """Tell whether `train` saves the merged model: as `lora_merge` says, by default unless the model is a hub's.

    >>> from mlm_recipes import MLMConfig
    >>> merges(MLMConfig(model="mini", use_cpu=True))
    False
    """
    if config.peft == "none":
        return False
    return bool(source_of(config.model) != "hub" if config.lora_merge is None else config.lora_merge)


def saved_as(config: Any) -> str:
    """Return a sentence that says what `train` will save, and of which model the adapter is."""
    if not merges(config):
        return f"Only the adapter is saved; it needs {config.model}."
    why = f", since {config.model} is not on the hub" if config.lora_merge is None else ""
    return f"It is saved merged into the model{why}."


def add_adapter(config: Any, model: Any, tokenizer: Any, name: str | None = None) -> Lora | None:
    """Add the adapter that the config asks for to a model, and return what was added; None if there is none to add.

    The part of the head that holds weights which the model's checkpoint lacks is trained whole.

    Args:
        config: an MLMConfig.
        model: changed in place. One that has an adapter keeps it.
        tokenizer: the model's.
        name: the model's name, as the user gave it; by default the one it was loaded by.

    Raises: ValueError for layers that the model does not have, and for FSDP with a model that has an adapter.
    """
    if has_adapter(model) and asked_sharding(config):
        raise ValueError(
            f"model: received a {type(model).__name__} object that has an adapter, with {asked_sharding(config)}. "
            "Accepted: a model without one, since sharding an adapter was not tried. Merge it, or leave fsdp out."
        )
    if config.peft == "none" or has_adapter(model):
        return None
    if name is not None and starts_random(name, config.from_scratch):
        raise ValueError(
            f"peft: received 'lora' with {name!r}, which starts from random weights. Accepted: none, since random "
            "weights that stay as they are predict nothing. Leave it out, or name a trained model."
        )
    return add_lora(
        model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=layer_names(config.lora_target_modules).split(),
        tokenizer=tokenizer,
        new_weights=missing_weights(model) or (),
        train_head=config.lora_train_head,
        base=name if name is not None else model.name_or_path or None,
        revision=config.model_revision if name is not None else None,
    )
