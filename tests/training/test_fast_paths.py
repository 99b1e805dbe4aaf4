"""Warnings about fast paths that do not pay off; which models support a fast path is tested with each of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from conftest import make_model
from same_run import PROPORTIONAL_STEPS

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.model.bf16_residual import LayerNorm
from mlm_recipes.model.rounding_bounds import rounding_bound
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


def _train(model, tokenizer, rows, **changes):
    args = MLMConfig(
        use_cpu=True, max_steps=4, save_strategy="no", per_device_train_batch_size=4, static_masks=True,
        **PROPORTIONAL_STEPS | changes,
    )  # fmt: skip
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _has_bf16_residual(model):
    return any(type(module) is LayerNorm for module in model.modules())


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_with_bf16_residual_the_losses_are_those_without_but_for_rounding(architecture, tokenizer, numbered):
    models = [make_model(architecture, tokenizer) for _ in range(2)]
    plain, ours = (
        _train(model, tokenizer, numbered, bf16=True, bf16_residual=residual)
        for model, residual in zip(models, (False, True), strict=True)
    )
    assert [_has_bf16_residual(model) for model in models] == [False, True]
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in models[0].modules())
    assert ours == pytest.approx(plain, rel=rounding_bound(5 * norms, torch.bfloat16))
    assert ours != plain
    assert {weight.dtype for weight in models[1].parameters()} == {torch.float32}


def test_bf16_residual_without_bf16_is_said_once_and_changes_nothing(tiny_bert, tokenizer, numbered, caplog):
    losses = []
    for residual in (False, True):
        model = copy.deepcopy(tiny_bert)
        with caplog.at_level("WARNING", logger="mlm_recipes"):
            losses.append(_train(model, tokenizer, numbered, bf16=False, bf16_residual=residual))
        assert not _has_bf16_residual(model)
    assert losses[0] == losses[1]
    assert caplog.text.count("bf16_residual is off: it needs bf16, which is off") == 1


def test_a_model_is_given_back_its_float32_residual(tiny_bert, tokenizer, numbered):
    _train(tiny_bert, tokenizer, numbered, bf16=True, bf16_residual=True)
    _train(tiny_bert, tokenizer, numbered, bf16=True)
    assert not _has_bf16_residual(tiny_bert)
