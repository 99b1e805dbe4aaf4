"""Muon for all matrices of one shape at once: the same updates as one by one, in few kernels."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from torch.utils._python_dispatch import TorchDispatchMode

from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.training.optimization import muon
from mlm_recipes.training.optimization.muon import ELEMENTS_AT_ONCE, MuonWithAdamW, matrices_at_once, muon_with_adamw
from mlm_recipes.training.optimization.orthogonal import orthogonal

SHAPES = [(4, 9), (9, 4), (4, 9), (6, 6), (9, 4), (4, 9), (4, 9), (6, 6), (4, 9)]
STEPS, RATE, DECAY, MOMENTUM = 3, 0.01, 0.1, 0.95


def at_once(number):
    return lambda matrix: number


def one_by_one(matrices, gradients):
    """Muon as it is usually written: a loop over matrices."""
    averages = [torch.zeros_like(matrix) for matrix in matrices]
    for step in gradients:
        for matrix, average, gradient in zip(matrices, averages, step, strict=True):
            average.lerp_(gradient, 1 - MOMENTUM)
            update = orthogonal(gradient.lerp(average, MOMENTUM), matrix.dtype)
            size = 0.2 * max(matrix.shape) ** 0.5
            matrix.mul_(1 - RATE * DECAY).add_(update, alpha=-RATE * size)
    return averages


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [1, 2, 100])
def test_matrices_together_get_the_updates_that_each_gets_alone(number, dtype, monkeypatch):
    monkeypatch.setattr(muon, "matrices_at_once", at_once(number))
    torch.manual_seed(0)
    start = [torch.randn(shape, dtype=dtype) for shape in SHAPES]
    gradients = [[torch.randn(shape, dtype=dtype) for shape in SHAPES] for _ in range(STEPS)]
    alone = [matrix.clone() for matrix in start]
    averages = one_by_one(alone, gradients)
    together = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    without_gradient, other = torch.nn.Parameter(start[0].clone()), torch.nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = MuonWithAdamW(
        [{"params": [without_gradient, *together], "weight_decay": DECAY}], [{"params": [other]}],
        lr=RATE, momentum=MOMENTUM, dtype=dtype,
    )  # fmt: skip
    for step in gradients:
        for matrix, gradient in zip(together, step, strict=True):
            matrix.grad = gradient.clone()
        optimizer.step()
        assert all(torch.equal(matrix.grad, gradient) for matrix, gradient in zip(together, step, strict=True))
    assert torch.equal(without_gradient, start[0])
    assert without_gradient not in optimizer.state
    # In one step: the averages, five times three products of nine terms, and the step itself. The directions that are
    # small before grow by 3.4 each time.
    bound = 3.4445**5 * rounding_bound(5 * 3 * 9, dtype)
    for one, other, before, average in zip(together, alone, start, averages, strict=True):
        assert optimizer.state[one].keys() == {"momentum_buffer"}
        torch.testing.assert_close(
            optimizer.state[one]["momentum_buffer"], average, rtol=0, atol=rounding_bound(STEPS * 3, dtype)
        )
        size = 0.2 * max(one.shape) ** 0.5
        largest = STEPS * RATE * size * bound + rounding_bound(STEPS * 3, dtype) * before.abs().max()
        assert (one - other).abs().max() <= largest
        assert (one - before).abs().max() > 100 * largest


def test_how_many_matrices_are_updated_together():
    assert matrices_at_once(torch.empty(768, 3072)) == 1
    on_a_gpu = torch.empty(768, 3072, device="meta")
    assert matrices_at_once(on_a_gpu) * on_a_gpu.numel() <= ELEMENTS_AT_ONCE
    assert matrices_at_once(on_a_gpu) >= 12  # bert-base's
    assert matrices_at_once(torch.empty(2**14, 2**14, device="meta")) == 1


class Kernels(TorchDispatchMode):
    """Collects the names of the operators that compute something; one for lists of tensors counts once."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if not operator.is_view and not operator.name().startswith(("aten::_unsafe_view", "profiler::")):
            self.names.append(operator.name())
        return operator(*args, **(kwargs or {}))


def kernels_of_a_step(tokenizer, layers):
    model = make_bert(tokenizer, num_hidden_layers=layers)
    names = [name for name, _ in model.named_parameters() if "bias" not in name]
    optimizer = muon_with_adamw(model, names, 0.1, lr=1e-3, fused=True, dtype=torch.bfloat16)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(0.0), torch.tensor(2.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # the first one creates the state
    with Kernels() as kernels:
        optimizer.step()
    return kernels.names


def test_the_number_of_kernels_does_not_grow_with_the_number_of_layers(tokenizer, monkeypatch):
    monkeypatch.setattr(muon, "matrices_at_once", at_once(1000))
    few, many = kernels_of_a_step(tokenizer, 2), kernels_of_a_step(tokenizer, 7)
    assert few == many
    assert few.count("aten::baddbmm") == 3 * 5 * 2  # three shapes: attention's, and up and down
    assert len(few) <= 105
    monkeypatch.setattr(muon, "matrices_at_once", at_once(1))
    assert len(kernels_of_a_step(tokenizer, 7)) > 7 * 105
