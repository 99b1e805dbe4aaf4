"""Checks what a config says about the tokens of a step."""

from __future__ import annotations

from typing import Any


def check_batches(config: Any) -> None:
    """Raise ValueError for a number of tokens that no step can have, and with a stream."""
    tokens = config.tokens_per_batch
    if tokens is None:
        return
    if isinstance(tokens, bool) or tokens < 1:
        raise ValueError(
            f"tokens_per_batch: received {tokens}. Accepted: at least the tokens of the longest row, or no value for "
            "steps of per_device_train_batch_size rows. Try 8192."
        )
    if config.streaming:
        raise ValueError(
            f"tokens_per_batch: received {tokens} with streaming. Accepted: no value, since it would be unknown where "
            "in the text a step begins until all before it was read, and how many steps it has. Leave one of them out."
        )
