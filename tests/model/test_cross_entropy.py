"""The cross-entropy in parts, compared with torch's own: the same values and gradients, less memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy as plain

from mlm_recipes.model import cross_entropy as module
from mlm_recipes.model.cross_entropy import cross_entropy

ROWS, VOCABULARY = 37, 53


def given(dtype=torch.float32, rows=ROWS):
    generator = torch.Generator().manual_seed(0)
    logits = (8 * torch.randn(rows, VOCABULARY, generator=generator)).to(dtype)
    labels = torch.randint(VOCABULARY, (rows,), generator=generator)
    labels[1::5] = -100
    weights = torch.randn(rows, generator=generator)  # each row its own, as num_items and micro-batches may have it
    return logits, labels, weights


@pytest.fixture(params=[1, 4, 10**9], ids=["row by row", "the last part smaller", "all at once"])
def parts(request, monkeypatch):
    monkeypatch.setattr(module, "_AT_A_TIME", request.param * VOCABULARY)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_cross_entropy_equals_torchs(dtype, parts):
    logits, labels, weights = given(dtype)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    nats, expected = cross_entropy(ours, labels), plain(theirs.float(), labels, reduction="none")
    assert nats.dtype == torch.float32
    # A sum over the vocabulary, whose terms and result round by float32; sizes are those of the largest logit.
    bound = 4 * math.sqrt(VOCABULARY) * torch.finfo(torch.float32).eps
    assert (nats - expected).abs().max() <= bound * logits.abs().max()
    assert nats[1::5].tolist() == [0.0] * len(nats[1::5])
    (nats * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad.dtype == dtype
    # Gradients differ by that and by one rounding to their own type.
    bound += torch.finfo(dtype).eps
    assert (ours.grad - theirs.grad).abs().max() <= bound * weights.abs().max()
    assert theirs.grad.abs().max() > 0.1


def test_a_row_without_a_loss_does_not_affect_others():
    logits, labels, _ = given()
    logits[1] = torch.nan  # its label is -100
    logits.requires_grad_()
    cross_entropy(logits, labels).sum().backward()
    others = torch.arange(ROWS) != 1
    assert logits.grad[others].isfinite().all()


def test_a_loss_that_is_not_finite_makes_every_gradient_nan():
    logits, labels, _ = given()
    logits.requires_grad_()
    labels.clamp_min_(0)
    (cross_entropy(logits, labels).sum() * torch.nan).backward()
    assert logits.grad.isnan().all()


def test_no_rows_give_an_empty_loss():
    logits, labels, _ = given(rows=0)
    logits.requires_grad_()
    nats = cross_entropy(logits, labels)
    nats.sum().backward()
    assert nats.shape == (0,)
    assert logits.grad.shape == (0, VOCABULARY)


def test_a_second_backward_pass_gives_the_same_gradient():
    logits, labels, weights = given()
    logits.requires_grad_()
    loss = (cross_entropy(logits, labels) * weights).sum()
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")  # torch 2.11's, said of every profile
def test_only_the_gradient_has_the_logits_size(monkeypatch):
    logits, labels, _ = given()
    logits.requires_grad_()
    monkeypatch.setattr(module, "_AT_A_TIME", 2 * VOCABULARY)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with torch.profiler.profile(profile_memory=True) as profile:
        cross_entropy(logits, labels).sum().backward()
    whole = logits.numel() * 4
    allocated = [event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage >= whole]
    assert allocated == [whole]


def test_torchs_own_function_is_used_while_compiling(monkeypatch):
    logits, labels, _ = given()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(module._CrossEntropy, "apply", lambda *args: pytest.fail("this cannot be compiled"))
    assert torch.equal(cross_entropy(logits, labels), plain(logits, labels, reduction="none"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_equals_torchs_and_allocates_one_tensor_of_the_logits_size(monkeypatch):
    monkeypatch.setattr(module, "_AT_A_TIME_ELSEWHERE", 64 * 30522)
    logits = (8 * torch.randn(2048, 30522)).cuda()
    labels = torch.randint(30522, (2048,)).cuda()
    labels[1::5] = -100
    found, most = [], []
    for function in (cross_entropy, lambda x, y: plain(x, y, reduction="none")):
        given_logits = logits.clone().requires_grad_()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        nats = function(given_logits, labels)
        nats.sum().backward()
        most.append(torch.cuda.max_memory_allocated() - before)
        found.append((nats.detach(), given_logits.grad))
        del given_logits
    bound = 4 * math.sqrt(30522) * torch.finfo(torch.float32).eps
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= bound * logits.abs().max()
    size = logits.numel() * 4
    assert size <= most[0] < 1.2 * size < most[1]
