"""How benchmarks/bf16_residual.py compares its runs; no model is trained."""

from __future__ import annotations

import pytest


def test_a_bf16_residual_is_compared_seed_by_seed(benchmark):
    script = benchmark("bf16_residual")
    runs = [
        {"start": "mini", "seed": seed, "bf16_residual": residual, "steps": 200, "curve": [9.0, 7.0, 5.0, loss],
         "held_out": 2.0 * loss, "held_out_autocast": loss}
        for seed, residual, loss in [(0, False, 3.0), (0, True, 3.5), (1, False, 4.0), (1, True, 4.25)]
    ]  # fmt: skip
    first, held_out, autocast = script.compared(runs)
    assert first["measure"] == "training, step 100"  # the only one within 200 steps
    assert first["float32"] == {"mean": 8.0, "spread": 0.0}  # the first two means of fifty steps
    assert held_out["difference"]["mean"] == 0.75
    assert autocast["float32"]["mean"] == 3.5
    assert autocast["bf16"]["mean"] == 3.875
    assert autocast["difference"] == {"mean": 0.375, "spread": pytest.approx(0.125 * 2**0.5)}
    assert (
        script.table_of([autocast])
        == "| mini | held out, autocast | 3.5000 (0.7071) | 3.8750 (0.5303) | +0.3750 (0.1768) |"
    )
    (alone, *_) = script.compared(runs[:2])
    assert alone["difference"]["spread"] is None
