"""When two runs count as the same run: bounds that follow from arithmetic. CONTRIBUTING.md states the rule."""

from __future__ import annotations

import numpy as np
import torch

from mlm_recipes.model.rounding_bounds import rounding_bound, summed_terms

#: AdamW divides a gradient by its own size. A gradient that is only rounding, such as that of a bias before a softmax,
#: then makes a whole step. With an epsilon far above all gradients, a step is proportional to the gradient and rounds
#: as the gradient does.
PROPORTIONAL_STEPS = {"adam_epsilon": 1.0, "learning_rate": 0.1}

#: No batch of these tests has more tokens.
TOKENS = 1000


def loss_bound(model, steps=1):
    """Return the relative bound of a loss, of logits or of another result of a forward pass."""
    return rounding_bound(summed_terms(model, TOKENS, passes=1 + 3 * (steps - 1)))


def gradient_bound(model, steps=1):
    """Return the relative bound of a gradient, of its norm, and of the way that weights have moved."""
    return rounding_bound(summed_terms(model, TOKENS, passes=3 * steps))


def flat_weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def assert_close(found, expected, bound, what="result"):
    """Hold two tensors against each other: their largest difference, relative to the largest value."""
    found, expected = (torch.as_tensor(each).detach().double() for each in (found, expected))
    assert found.shape == expected.shape, what
    assert torch.isfinite(found).all(), what
    difference, size = float((found - expected).abs().max()), float(expected.abs().max())
    assert difference <= bound * size, f"{what}: differs by {difference:.1e} of {size:.1e}, bound {bound:.1e}"


def assert_same_logs(found, expected, model):
    """Hold the losses and gradient norms of two runs against each other, `(steps, 2)` each."""
    found, expected = np.array(found), np.array(expected)
    assert found.shape == expected.shape
    difference = np.abs(found - expected) / np.abs(expected)
    assert difference[:, 0].max() <= loss_bound(model, len(found)), difference
    assert difference[:, 1].max() <= gradient_bound(model, len(found)), difference


def assert_same_weights(found, expected, model, steps):
    """Hold the weights of two runs of PROPORTIONAL_STEPS against each other, by how far they have moved.

    `model` has the weights that both runs began with. A step adds to a weight, and so rounds by the weight's size.
    """
    start = flat_weights(model)
    moved = float((expected - start).norm())
    assert moved > 1e-2, "the runs did too little to agree about"
    bound = gradient_bound(model, steps) * moved + steps**0.5 * torch.finfo(start.dtype).eps * float(start.norm())
    difference = float((found - expected).norm())
    assert difference <= bound, f"weights differ by {difference:.1e}, bound {bound:.1e}, moved {moved:.1e}"
    assert bound < moved / 100, "the bound would hide a real difference"


def assert_same_run(found, expected, model, steps):
    """Hold two runs against each other, each a pair of logs and weights, that began with the weights of `model`."""
    assert np.array(found[0]).shape == (steps, 2)
    assert_same_logs(found[0], expected[0], model)
    assert_same_weights(found[1], expected[1], model, steps)
