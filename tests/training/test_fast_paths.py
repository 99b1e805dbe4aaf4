"""Warnings about fast paths that do not pay off; which models support a fast path is tested with each of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training import precision


@pytest.mark.parametrize(
    ("bf16", "fast", "process", "said"),
    [(True, False, 0, True), (True, False, 1, False), (True, True, 0, False), (False, False, 0, False)],
)
def test_bf16_that_is_emulated_is_said_by_the_main_process(bf16, fast, process, said, monkeypatch, caplog):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda use_cpu: fast)
    with caplog.at_level("WARNING", logger="mlm_recipes"):
        precision.warn_of_slow_bf16(SimpleNamespace(bf16=bf16, use_cpu=True, process_index=process))
    assert ("pass --bf16 false" in caplog.text) is said


def test_a_trainer_says_it_once(tiny_bert, tokenizer, rows, monkeypatch, caplog):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda use_cpu: False)
    args = MLMConfig(bf16=True, use_cpu=True, max_steps=1, save_strategy="no", per_device_train_batch_size=2)
    with caplog.at_level("WARNING", logger="mlm_recipes"):
        model = copy.deepcopy(tiny_bert)
        MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer).train()
    assert caplog.text.count("does not multiply bfloat16 in hardware") == 1
