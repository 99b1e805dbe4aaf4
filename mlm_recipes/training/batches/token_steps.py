"""How many steps an epoch of a run has, if its steps have a number of tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..config import MLMConfig
from .mixed_order import lengths_of
from .token_budget import steps_an_epoch


class TokenSteps(NamedTuple):
    """The steps of an epoch, and the mean number of tokens in each."""

    steps: int
    tokens: int


def steps_of_tokens(rows: Any, args: MLMConfig) -> TokenSteps | None:
    """Return how `tokens_per_batch` divides an epoch of rows of token ids; None if steps have a number of rows.

    Raises: ValueError for a row that is longer than a step.

    >>> steps_of_tokens([[1, 2, 3], [1, 2]], MLMConfig(use_cpu=True, tokens_per_batch=4))
    TokenSteps(steps=2, tokens=2)
    """
    if args.tokens_per_batch is None:
        return None
    lengths = lengths_of(rows, args)(0)
    steps = steps_an_epoch(lengths, args.tokens_per_batch)
    return TokenSteps(steps, round(int(lengths.sum()) / steps))
