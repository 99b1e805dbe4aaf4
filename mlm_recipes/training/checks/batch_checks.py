"""Checks what a config says about the tokens of a step."""

from __future__ import annotations

from typing import Any


def check_batches(config: Any) -> None:
    """Raise ValueError for a size of a step that no step can have, and for a number of tokens with a stream."""
    _check_global_batch(config)
    tokens = config.tokens_per_batch
    if tokens is None:
        return
    if isinstance(tokens, bool) or tokens < 1:
        raise ValueError(
            f"tokens_per_batch: received {tokens}. Accepted: at least the tokens of the longest row, or no value for "
            "steps of per_device_train_batch_size rows. Try 8192."
        )
    if config.global_batch_size is not None:
        raise ValueError(
            f"tokens_per_batch: received {tokens} with global_batch_size {config.global_batch_size}. Accepted: one of "
            "them, since each says how much a step has. Leave the other out."
        )
    if config.streaming:
        raise ValueError(
            f"tokens_per_batch: received {tokens} with streaming. Accepted: no value, since it would be unknown where "
            "in the text a step begins until all before it was read, and how many steps it has. Leave one of them out."
        )


def _check_global_batch(config: Any) -> None:
    batch, steps = config.global_batch_size, config.gradient_accumulation_steps
    if batch is None:
        return
    if batch < 1:
        raise ValueError(
            f"global_batch_size: received {batch}. Accepted: 1 or more rows, or no value, for what the other values "
            "make. Leave it out."
        )
    if steps > 1 and batch % (config.per_device_train_batch_size * steps):
        raise ValueError(
            f"global_batch_size: received {batch} with gradient_accumulation_steps {steps} of "
            f"{config.per_device_train_batch_size} rows. Accepted: a multiple of these {steps} times "
            f"{config.per_device_train_batch_size}. Leave gradient_accumulation_steps out: it follows."
        )
