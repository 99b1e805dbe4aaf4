"""Comparisons in exact float32 leave the precision of products as they found it."""

from __future__ import annotations

import pytest
import torch

from mlm_recipes.model.exact_float32 import exact_float32

MATMUL = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.backends.fp32_precision, MATMUL.fp32_precision
    yield
    torch.backends.fp32_precision, MATMUL.fp32_precision = before


@pytest.mark.parametrize("general", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("own", ["none", "ieee", "tf32"])
def test_the_precision_is_as_before(general, own):
    torch.backends.fp32_precision, MATMUL.fp32_precision = general, own
    before = MATMUL.fp32_precision
    with exact_float32():
        assert MATMUL.fp32_precision == "ieee"
    assert MATMUL.fp32_precision == before


def test_a_later_change_of_the_general_precision_counts():
    torch.backends.fp32_precision, MATMUL.fp32_precision = "tf32", "none"  # as transformers sets it with tf32=True
    with exact_float32():
        pass
    torch.backends.fp32_precision = "ieee"
    assert MATMUL.fp32_precision == "ieee"
