"""How far two runs are from each other; something that is not a number is not lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch


def greatest(figures: Iterable[float]) -> float:
    """Return the greatest of some figures, or NaN if one of them is NaN, which `max` passes over.

    >>> greatest([1.0, float("nan")]), greatest([1.0, 2.0])
    (nan, 2.0)
    """
    return float(torch.tensor([*figures], dtype=torch.float64).max())


def of_weights(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> float:
    """Return the greatest difference of any weight.

    >>> of_weights({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 2.5])})
    0.5
    """
    assert found.keys() == expected.keys()
    return greatest(float((found[name].double() - weight.double()).abs().max()) for name, weight in expected.items())


def of_losses(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return the greatest difference of any step's loss, relative to that loss.

    >>> of_losses([4.0, 2.0], [4.0, 2.5])
    0.2
    """
    return greatest(abs(mine - other) / abs(other) for mine, other in zip(found, expected, strict=True))
