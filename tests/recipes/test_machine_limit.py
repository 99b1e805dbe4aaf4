from __future__ import annotations

import pytest
import torch
from conftest import make_bert

from mlm_recipes.recipes import machine_limit


def test_the_operations_are_those_that_torch_counts(tokenizer):
    """On rows of one token attention between tokens is small; the head is asked for every token here."""
    from torch.utils.flop_counter import FlopCounterMode

    model = make_bert(tokenizer)
    ids = torch.randint(5, 100, (64, 1))
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids, labels=ids).loss.backward()
    ours = machine_limit.model_flops(model, tokens=64, masked=64)
    # The backward pass of the first layer needs no gradient of its input: torch counts a little less.
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.1)


def test_the_head_counts_on_masked_tokens_only(tiny_bert):
    less = machine_limit.model_flops(tiny_bert, tokens=100, masked=10)
    more = machine_limit.model_flops(tiny_bert, tokens=100, masked=20)
    head = sum(layer.weight.numel() for layer in tiny_bert.cls.modules() if isinstance(layer, torch.nn.Linear))
    assert more - less == 6 * 10 * head


def test_two_processes_have_twice_the_limit(tiny_bert, monkeypatch):
    monkeypatch.setattr(machine_limit, "matrix_rate", lambda device, dtype: 1e9)
    found = machine_limit.machine_limit(tiny_bert, 1000, 150.0, 2.0, 2, torch.bfloat16)
    assert found["matrix_flops_per_second"] == 2e9
    assert found["dtype"] == "bfloat16"
    assert found["flops_per_second"] == machine_limit.model_flops(tiny_bert, 1000, 150.0) / 2


def test_a_larger_type_is_not_measured_as_a_smaller_one():
    device = torch.device("cpu")
    assert machine_limit.matrix_rate(device, torch.float64, 0.02) < machine_limit.matrix_rate(
        device, torch.float32, 0.02
    )
