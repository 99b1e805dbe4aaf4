"""How much two computations of the same number may differ if only the order of their sums differs."""

from __future__ import annotations

import math

import torch

#: Standard deviations of the accumulated rounding that a bound allows: a chance of 1 in 16,000 of a false failure.
_SIGMAS = 4


def rounding_bound(terms: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the largest relative difference that rounding explains between two ways to add up `terms` terms.

    Each addition rounds by at most half of the dtype's epsilon, up or down. Such errors accumulate like a random walk,
    with the square root of their number (Higham & Mary 2019, https://doi.org/10.1137/18M1226312). The bound is
    `4 * sqrt(terms) * eps`; it does not depend on the processor or the library.

    Args:
        terms: the number of additions between the inputs and the result; see `summed_terms`.
        dtype: the dtype of the additions.

    >>> f"{rounding_bound(10_000):.1e}"
    '4.8e-05'
    """
    return _SIGMAS * math.sqrt(terms) * torch.finfo(dtype).eps


def summed_terms(model: torch.nn.Module, tokens: int, passes: int = 1) -> int:
    """Return how many terms are added, one after the other, between a batch and its loss or gradient.

    Every weight takes part in a sum over its last dimension (a matrix product, a normalization, the softmax over the
    vocabulary), and the loss is a sum over tokens.

    Args:
        model: the model.
        tokens: the number of tokens in the batch.
        passes: 1 for a loss or logits; 3 for a gradient, whose backward pass has two products for each one in the
            forward pass; multiplied by the number of steps for weights after several steps.

    >>> summed_terms(torch.nn.Linear(10, 20), tokens=5)  # the matrix, the bias, the tokens
    35
    """
    return passes * (sum(weight.shape[-1] for weight in model.parameters() if weight.ndim) + tokens)
