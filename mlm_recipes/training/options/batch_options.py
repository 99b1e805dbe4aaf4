"""`BatchOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BatchOptions:
    """How many tokens a step has, and which process computes which of its rows."""

    balance_lengths: bool = field(
        default=True,
        metadata={
            "help": "With several processes and padding_free: divide the rows of each step so that all have about "
            "equally many tokens and none waits long; each step has the same rows, and the loss is the same."
        },
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "About how many tokens a step has, over all its micro-batches and processes, instead of "
            "per_device_train_batch_size rows in each; the same steps on any number of processes. By default none: a "
            "step has a number of rows."
        },
    )
