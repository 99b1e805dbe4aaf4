"""What a run says of the parts of its model that it does not train; imports no torch."""

from __future__ import annotations

from ..metrics_file import Frozen
from .wording import count


def frozen_parts(found: Frozen) -> str:
    """Return sentences that say what is frozen, and how much of the model is trained.

    >>> frozen_parts(dict(part="lower-2", parameters=4_000_000, trained_parameters=1_000_000, head_matrix=True))
    "Frozen: the embeddings and the first 2 layers, and with them the head's matrix, which is the embeddings', but not \
its bias. 1.0M of 4.0M parameters are trained (25%)."
    """
    part = found["part"]
    what = {"embeddings": "the embeddings", "body": "everything but the head"}.get(part)
    what = what or f"the embeddings and {_first(int(part.removeprefix('lower-')))}"
    tied = ", and with them the head's matrix, which is the embeddings', but not its bias"
    share = found["trained_parameters"] / found["parameters"]
    return (
        f"Frozen: {what}{tied if found['head_matrix'] else ''}. {found['trained_parameters'] / 1e6:.1f}M of "
        f"{found['parameters'] / 1e6:.1f}M parameters are trained ({share:.0%})."
    )


def _first(number: int) -> str:
    return "the first layer" if number == 1 else f"the first {number} layers"


def head_first(steps: int) -> str:
    """Return a sentence that says in which steps only the head is trained.

    >>> head_first(13)
    'Only the head is trained in the first 13 steps.'
    """
    return f"Only the head is trained in the first {count(steps, 'step').removeprefix('1 ')}."


def new_tokens_first(steps: int) -> str:
    """Return a sentence that says in which steps only the rows of new tokens are trained.

    >>> new_tokens_first(1)
    'Only the rows of new tokens are trained in the first step.'
    """
    return f"Only the rows of new tokens are trained in the first {count(steps, 'step').removeprefix('1 ')}."
