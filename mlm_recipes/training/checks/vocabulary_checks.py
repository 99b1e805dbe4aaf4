"""Checks the values of a config that describe the vocabulary."""

from __future__ import annotations

from typing import Any

from ...data.learned_tokenizers import check_type
from ..distributed.launcher import asked_sharding


def check_vocabulary(config: Any) -> None:
    """Raise ValueError for the first value that is out of range or conflicts with another value."""
    check_type(config.tokenizer_type, config.kmer_length)
    steps = config.train_new_tokens_first
    if steps is None:
        return
    if steps < 1:
        raise ValueError(
            f"train_new_tokens_first: received {steps}. Accepted: 1 or more steps. Leave it out to train all weights "
            "from the first step."
        )
    if not config.add_tokens:
        raise ValueError(
            f"train_new_tokens_first: received {steps} without add_tokens. Accepted: a number of steps together with "
            "the words whose rows are trained. Pass --add_tokens FILE, or leave it out."
        )
    for name, default, why in (
        ("freeze", "none", "freezes these rows with the rest of the embeddings"),
        ("head_warmup_steps", 0.0, "freezes these rows in the first steps, in which only the head is trained"),
    ):
        if (value := getattr(config, name)) != default:
            raise ValueError(
                f"train_new_tokens_first: received {steps} with {name} {value!r}, which {why}. Accepted: {default!r} "
                "with it. Leave one of them out."
            )
    if asked_sharding(config):
        raise ValueError(
            f"train_new_tokens_first: received {steps} with {asked_sharding(config)}. Accepted: a number of steps "
            "without it, since it splits the rows over the processes. Leave one of them out."
        )
