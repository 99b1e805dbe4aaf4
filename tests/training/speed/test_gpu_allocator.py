from __future__ import annotations

import sys

import pytest

from mlm_recipes.training.speed.gpu_allocator import use_expandable_segments


@pytest.mark.parametrize(
    ("platform", "given", "expected"),
    [
        ("linux", {}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ("linux", {"PYTORCH_ALLOC_CONF": "backend:native"}, {"PYTORCH_ALLOC_CONF": "backend:native"}),
        ("linux", {"PYTORCH_CUDA_ALLOC_CONF": ""}, {"PYTORCH_CUDA_ALLOC_CONF": ""}),
        ("win32", {}, {}),
    ],
)
def test_what_the_user_asks_for_stays(monkeypatch, platform, given, expected):
    monkeypatch.setattr(sys, "platform", platform)
    environment = dict(given)
    use_expandable_segments(environment)
    assert environment == expected


def test_torch_accepts_it():
    from torch._C import _accelerator_setAllocatorSettings

    _accelerator_setAllocatorSettings("expandable_segments:True")
