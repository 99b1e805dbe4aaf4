"""The masking policies by name; a new one is a file in `policies/` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .flat_tokens import FlatTokens
from .policies import informative, token
from .random_keys import Bools, Floats


class Policy(NamedTuple):
    """A way to choose tokens, and what it needs to know of them besides their ids."""

    choose: Callable[[FlatTokens, Floats, bool], Bools]
    words: bool = False
    weights: bool = False


POLICIES = {
    "token": Policy(token.choose),
    "informative": Policy(informative.choose, weights=True),
}
