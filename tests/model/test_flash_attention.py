"""Flash attention by lengths equals attention in each sequence; where it does not work, the reason is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from same_run import assert_close
from torch.nn.functional import scaled_dot_product_attention

from mlm_recipes.model import flash_attention
from mlm_recipes.model.flash_attention import ASKED, flash_by_lengths, has_flash
from mlm_recipes.model.joined_attention import _near, _padded, attention
from mlm_recipes.model.rounding_bounds import rounding_bound

LENGTHS = [9, 1, 70, 17]
SCHEMA = torch.ops.aten._flash_attention_forward.default._schema

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def borders(lengths, device="cpu"):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=device)


def tensors(heads, dim, kv_heads=None, device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(heads, sum(LENGTHS), dim)] + 2 * [(kv_heads or heads, sum(LENGTHS), dim)]
    drawn = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    return [each.requires_grad_() for each in drawn]


def operator(*args, **kwargs):
    """What torch's operator computes, one sequence at a time; the call is checked against its schema."""
    names = [argument.name for argument in SCHEMA.arguments]
    assert set(kwargs) <= set(names)
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k, v = (given[name] for name in ("query", "key", "value"))  # (tokens, heads, head_dim)
    assert q.shape[-1] % 8 == 0
    assert given["cum_seq_q"].dtype == torch.int32
    reach = given.get("window_size_left")
    assert reach == given.get("window_size_right")
    parts = []
    starts = given["cum_seq_q"].tolist()
    for begin, end in pairwise(starts):
        length = end - begin
        assert length <= given["max_q"]
        part = (each[begin:end].transpose(0, 1) for each in (q, k, v))
        mask = None if reach is None else _near(length, reach + 1, q.device)
        found = scaled_dot_product_attention(*part, attn_mask=mask, scale=given["scale"], enable_gqa=True)
        parts.append(found.transpose(0, 1))
    return torch.cat(parts), None


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(2, 2, 16), (4, 2, 12)])
def test_the_operator_gets_what_the_padded_twin_gets(monkeypatch, window, heads, kv_heads, dim):
    monkeypatch.setattr(flash_attention, "_operator", operator)
    q, k, v = tensors(heads, dim, kv_heads)
    found = flash_by_lengths(q, k, v, borders(LENGTHS), max(LENGTHS), 0.0, 0.3, window)
    repeated = (each.repeat_interleave(heads // kv_heads, 0) for each in (k, v))
    expected = _padded(q, *repeated, borders(LENGTHS), max(LENGTHS), 0.0, 0.3, window)
    bound = rounding_bound(2 * dim + max(LENGTHS))
    assert_close(found, expected, bound)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((each * weights).sum(), (q, k, v)) for each in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, bound)


def test_attention_uses_it_where_it_was_found_to_work(monkeypatch):
    monkeypatch.setattr(flash_attention, "_operator", operator)
    query, key, value = (each.detach().unsqueeze(0) for each in tensors(2, 16))
    given = {"cu_seq_lens_q": borders(LENGTHS), "max_length_q": max(LENGTHS)}
    expected, _ = attention(None, query, key, value, None, **given)
    calls = []
    monkeypatch.setattr(
        flash_attention, "_operator", lambda *args, **kwargs: calls.append(1) or operator(*args, **kwargs)
    )
    attention(None, query, key, value, None, **given)
    assert not calls
    monkeypatch.setitem(ASKED, (query.device, query.dtype, 16), None)
    found, _ = attention(None, query, key, value, None, **given)
    assert calls
    assert_close(found, expected, rounding_bound(32 + max(LENGTHS)))


def test_the_reason_is_kept_where_it_does_not_work(monkeypatch):
    monkeypatch.setattr(flash_attention, "ASKED", asked := {})
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    for key in ((cpu, torch.bfloat16, 64), (cuda, torch.float32, 64), (cuda, torch.bfloat16, 512)):
        assert not has_flash(*key)
    assert list(asked.values()) == [
        "torch has it for CUDA only",
        "it needs half precision, and the run computes in float32",
        "it takes heads of at most 256 elements, and this model's have 512",
    ]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(2, 2, 64), (4, 2, 20)])
def test_on_a_gpu_the_kernel_equals_the_padded_twin(window, heads, kv_heads, dim):
    q, k, v = tensors(heads, dim, kv_heads, "cuda", torch.bfloat16)
    cu = borders(LENGTHS, "cuda")
    found = flash_by_lengths(q, k, v, cu, max(LENGTHS), 0.0, 0.3, window)
    exact = [each.detach().float().requires_grad_() for each in (q, k, v)]
    repeated = (each.repeat_interleave(heads // kv_heads, 0) for each in exact[1:])
    expected = _padded(exact[0], *repeated, cu, max(LENGTHS), 0.0, 0.3, window)
    bound = rounding_bound(2 * dim + max(LENGTHS), torch.bfloat16)
    assert_close(found.float(), expected, bound)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((found.float() * weights).sum(), (q, k, v))
    for one, other in zip(ours, torch.autograd.grad((expected * weights).sum(), exact), strict=True):
        assert_close(one.float(), other, bound)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_its_dropout_follows_the_seed_and_keeps_the_mean():
    q, k, v = (each.detach() for each in tensors(2, 64, device="cuda", dtype=torch.bfloat16))
    v = torch.ones_like(v)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(flash_by_lengths(q, k, v, borders(LENGTHS, "cuda"), max(LENGTHS), 0.25, 0.3, None))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    # Without dropout every element is 1; with it each is a mean of independent draws with variance 1/3 at most.
    elements = sum(LENGTHS) * 2
    assert abs(found[0][..., 0].float().mean().item() - 1) < 4 * (1 / 3 / elements) ** 0.5
