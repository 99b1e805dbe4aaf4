"""`found_inf` and `grad_scale`, as for torch's fused optimizers: decided on the device, never read on the host."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.training.optimization import muon
from mlm_recipes.training.optimization.muon import MuonWithAdamW

SHAPES = [(4, 6), (6, 4), (4, 6), (4, 6), (6, 4), (3, 3)]


@pytest.fixture(params=[1, 100], autouse=True)
def at_once(request, monkeypatch):
    monkeypatch.setattr(muon, "matrices_at_once", lambda matrix: request.param)


class NoRead(TorchDispatchMode):
    """Fails where the host would wait for a number of the device."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.name()
        assert not any(each in name for each in ("_local_scalar_dense", "nonzero", "item", "equal", "unique")), name
        return operator(*args, **(kwargs or {}))


def make(fused=True):
    torch.manual_seed(0)
    matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    others = [torch.nn.Parameter(torch.randn(shape)) for shape in ((5,), (7, 3))]
    with torch.no_grad():
        for parameter in (*matrices, *others):
            parameter.view(-1)[0] = -0.0  # whose sign is a bit too
    optimizer = MuonWithAdamW(
        [{"params": matrices[:4], "weight_decay": 0.1}, {"params": matrices[4:]}],
        [{"params": others, "weight_decay": 0.1}], lr=0.01, fused=fused,
    )  # fmt: skip
    return [*matrices, *others], optimizer


def give_gradients(parameters, step, factor=1.0):
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * factor


def learn(parameters, optimizer, steps, **attributes):
    for step in steps:
        give_gradients(parameters, step)
        for name, value in attributes.items():
            setattr(optimizer, name, torch.tensor(value))
        with NoRead():
            optimizer.step()
        for name, value in attributes.items():
            assert getattr(optimizer, name).item() == value  # as the caller has set it


def bits(parameters, optimizer):
    """Return every number of the weights and of the state, as integers: NaN equals NaN, and -0 does not equal 0."""
    states = [optimizer.state[parameter] for parameter in parameters]
    values = [*parameters, *(state[name] for state in states for name in sorted(state))]
    return [value.detach().clone().view(torch.int32) for value in values]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1.0])
def test_a_step_with_found_inf_changes_nothing(value):
    parameters, optimizer = make()
    learn(parameters, optimizer, range(3))
    for parameter in parameters:
        for name in optimizer.state[parameter].keys() & {"momentum_buffer", "exp_avg"}:
            optimizer.state[parameter][name].view(-1)[0] = -0.0
    before = bits(parameters, optimizer)
    give_gradients(parameters, 3, factor=value)
    optimizer.found_inf = torch.tensor(1.0)
    with NoRead():
        optimizer.step()
    assert same(bits(parameters, optimizer), before)
    learn(parameters, optimizer, [3], found_inf=0.0)
    assert not any(torch.equal(a, b) for a, b in zip(bits(parameters, optimizer), before, strict=True))


def test_a_first_step_with_found_inf_changes_nothing():
    parameters, optimizer = make()
    at_first = [parameter.detach().clone().view(torch.int32) for parameter in parameters]
    give_gradients(parameters, 0, factor=torch.nan)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), torch.tensor(torch.inf)
    with NoRead():
        optimizer.step()
    assert same([parameter.detach().view(torch.int32) for parameter in parameters], at_first)
    for state in optimizer.state.values():
        assert all(not value.view(torch.int32).any() for value in state.values())
    learn(parameters, optimizer, range(3), found_inf=0.0, grad_scale=1.0)
    never, other = make()
    learn(never, other, range(3))
    assert same(bits(parameters, optimizer), bits(never, other))


def test_a_step_without_found_inf_is_the_same_to_the_bit():
    (set_, one), (unset, other) = make(), make()
    learn(set_, one, range(3), found_inf=0.0)
    learn(unset, other, range(3))
    assert same(bits(set_, one), bits(unset, other))


def test_gradients_are_divided_by_grad_scale():
    (scaled, one), (divided, other) = make(), make()
    for step, scale in enumerate((3.0, 0.75, 1000.0)):
        learn(scaled, one, [step], found_inf=0.0, grad_scale=scale)
        give_gradients(divided, step, factor=1 / scale)
        other.step()
    # Newton-Schulz: five times three products of six terms; what is small before grows by 3.4 each time.
    bound = 3 * 3.4445**5 * rounding_bound(5 * 3 * 6)
    for a, b in zip(scaled, divided, strict=True):
        assert (a - b).abs().max() <= 0.01 * bound
        for name in ("momentum_buffer", "exp_avg"):
            if name in one.state[a]:
                # The averages are not of the size of an update, so that one would see it if nothing was divided.
                mine, theirs = one.state[a][name], other.state[b][name]
                assert (mine - theirs).abs().max() <= rounding_bound(3 * 3) * theirs.abs().max()


def test_without_the_fused_kernel_neither_is_supported():
    parameters, optimizer = make(fused=False)
    assert not optimizer.supports_found_inf
    assert make()[1].supports_found_inf
    give_gradients(parameters, 0)
    optimizer.step()
    before = bits(parameters, optimizer)
    for name in ("found_inf", "grad_scale"):
        setattr(optimizer, name, torch.tensor(1.0))
        with pytest.raises(
            ValueError, match=f"{name}: received a tensor for an optimizer without AdamW's fused kernel"
        ):
            optimizer.step()
        delattr(optimizer, name)
    assert same(bits(parameters, optimizer), before)
    optimizer.step()


def test_a_checkpoint_of_an_optimizer_that_is_not_fused_is_noticed():
    parameters, unfused = make(fused=False)
    give_gradients(parameters, 0)
    unfused.step()
    _, optimizer = make()
    optimizer.load_state_dict(copy.deepcopy(unfused.state_dict()))
    assert not optimizer.supports_found_inf


@pytest.mark.parametrize("unscaled_before", [False, True])
def test_torchs_scaler_skips_a_step_by_them(unscaled_before):
    (scaled, one), (plain, other) = make(), make()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def loss(parameters):
        return sum((parameter * parameter.detach().sin()).sum() for parameter in parameters)

    for factor in (1.0, torch.inf, 1.0):
        one.zero_grad()
        scaler.scale(loss(scaled) * factor).backward()
        if unscaled_before:
            scaler.unscale_(one)
        scaler.step(one)
        scaler.update()
        if factor == 1.0:
            other.zero_grad()
            loss(plain).backward()
            other.step()
        # The scales are powers of two, by which a division is exact.
        assert same(bits(scaled, one), bits(plain, other))
    assert scaler.get_scale() == 512.0
