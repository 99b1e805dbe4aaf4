"""What a caller sets on a trainer that exists already: used in the next run, or refused by name."""

from __future__ import annotations

from typing import Any

import torch
from datasets import IterableDataset
from transformers import PreTrainedModel

from ...data.streams import TextStream
from .config_checks import check

#: Values that the constructor uses: a new value in `trainer.args` would change nothing.
USED_AT_ONCE = (
    *("mlm_probability", "mask_replace_prob", "random_replace_prob", "loss_on", "static_masks", "evaluation_seed"),
    *("padding", "pad_to_multiple_of", "max_length", "packing", "long_text", "stride", "padding_free"),
    *("sparse_prediction", "cuda_graphs", "bf16_residual", "torch_compile", "bf16", "fp16", "streaming"),
    *("early_stopping_patience", "early_stopping_threshold", "masking_policy", "mask_ngram", "word_segmenter"),
    *("freeze", "head_warmup_steps", "mix", "add_tokens", "train_new_tokens_first", "extend_positions"),
    *("peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_train_head"),
)


def used_values(args: Any) -> dict[str, Any]:
    """Return the values of a config that are used at once."""
    return {name: getattr(args, name) for name in USED_AT_ONCE}


def refuse_changed(args: Any, used: dict[str, Any], model: Any, used_model: Any) -> None:
    """Raise ValueError for a value or a model that was set since, and would not be used; check all other values.

    Args:
        args: the config as it is now.
        used: `used_values` of when they were used.
        model, used_model: the trainer's model now and then.
    """
    check(args)
    for name, value in used.items():
        if getattr(args, name) != value:
            raise ValueError(
                f"{name}: received {getattr(args, name)!r} in trainer.args, and the trainer was made with {value!r}. "
                "Accepted: the same, since it is used only then. Make a new MLMTrainer with the other value."
            )
    if model is not used_model and isinstance(model, PreTrainedModel):
        raise ValueError(
            f"model: received another {type(model).__name__} in trainer.model than the trainer was made with. "
            "Accepted: the same, since the batches are made for it. Make a new MLMTrainer with the other model."
        )


def refuse_stream(rows: Any, before: Any) -> None:
    """Raise ValueError if one of two data sets to train on is a stream: everything else is made for that."""
    streams = (TextStream, IterableDataset, torch.utils.data.IterableDataset)
    if isinstance(rows, streams) or isinstance(before, streams):
        raise ValueError(
            f"train_dataset: received {type(rows).__name__} in trainer.train_dataset, and the trainer was made with "
            f"{type(before).__name__}. Accepted: rows in place of rows, since a stream is trained on otherwise. Make a "
            "new MLMTrainer with the other data set."
        )
