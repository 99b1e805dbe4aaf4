from __future__ import annotations

import math

import pytest
import torch

from mlm_recipes.model.dropout import Dropout, _Dropped, use_fast_dropout

N = 400_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.97])
def test_dropout_has_the_right_rate_and_preserves_the_mean(dtype, p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(N, dtype=dtype))
    assert len(dropped.unique()) == 2
    assert dropped.max().item() == pytest.approx(1 / (1 - p), rel=1e-2 if dtype is torch.bfloat16 else 1e-3)
    share = (dropped == 0).double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / N) + 1 / 2**16


def test_neighbouring_elements_are_independent():
    """Four elements share a random 64-bit word, and every row has new noise."""
    torch.manual_seed(0)
    kept = (Dropout(0.3)(torch.ones(1000, 400)) != 0).double() - 0.7
    for lag in (1, 2, 3, 4, 400):
        flat = kept.flatten()
        correlation = (flat[lag:] * flat[:-lag]).mean().item() / 0.21
        assert abs(correlation) < 5 / math.sqrt(N), lag


def test_the_gradient_has_the_same_mask_as_the_output():
    x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)

    def dropped(x):
        torch.manual_seed(3)
        return _Dropped.apply(x, 0.4)

    assert torch.autograd.gradcheck(dropped, (x,))
    half = torch.randn(64, 64).bfloat16().T.requires_grad_()  # not contiguous; drawn as bfloat16 some may be 0
    out = Dropout(0.4)(half)
    out.sum().backward()
    assert torch.equal(half.grad == 0, out == 0)


def test_the_same_seed_gives_the_same_noise():
    x, layer = torch.ones(33), Dropout(0.5)
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_probabilities_that_need_no_noise(p):
    assert torch.equal(Dropout(p)(torch.ones(5)), torch.nn.Dropout(p)(torch.ones(5)))


def test_dropout_does_nothing_in_evaluation():
    x = torch.randn(5)
    assert Dropout(0.5).eval()(x) is x


def test_only_torchs_own_dropout_is_replaced():
    class Odd(torch.nn.Dropout):
        pass

    inner = torch.nn.Sequential(torch.nn.Dropout(0.1).eval(), Odd(0.2), torch.nn.Dropout(0.3, inplace=True))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), inner)
    names = list(model.state_dict())
    use_fast_dropout(model)
    assert [type(child) for child in inner] == [Dropout, Odd, torch.nn.Dropout]
    assert (inner[0].p, inner[0].training) == (0.1, False)
    assert list(model.state_dict()) == names
