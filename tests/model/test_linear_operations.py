"""The operations of linear modules are those that torch counts, also if a part of the model is frozen."""

from __future__ import annotations

import pytest
import torch
from architectures import make
from torch.utils.flop_counter import FlopCounterMode

from mlm_recipes.model.freezing import freeze
from mlm_recipes.model.linear_operations import linear_operations

TOKENS = 24


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("part", ["none", "embeddings", "lower-1", "lower-2", "body"])
def test_the_operations_equal_torchs_count(architecture, part):
    """Products of matrices, without those of attention, which scaled_dot_product_attention computes."""
    model = make(architecture)
    freeze(model, part)
    found = sum(operations * module.weight.numel() for module, operations in linear_operations(model).items())
    ids = torch.full((TOKENS, 1), 7)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(
        number for kind, number in counted.items() if str(kind).removeprefix("aten.") in ("mm", "addmm", "bmm")
    )
    assert products == found * TOKENS
