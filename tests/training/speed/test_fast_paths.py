"""Warnings about fast paths that do not pay off; which models support a fast path is tested with each of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from conftest import make_model
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights
from transformers import FNetConfig, FNetForMaskedLM, set_seed

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.model.bf16_residual import LayerNorm
from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.model.rows_of_one_length import row_multiple
from mlm_recipes.training.speed import precision
from mlm_recipes.training.speed.fast_paths import choose_layout


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


def make_fnet(tokenizer):
    set_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    return FNetForMaskedLM(FNetConfig(vocab_size=len(tokenizer), pad_token_id=0, hidden_dropout_prob=0.0, **size))


def _fnet_trainer(tokenizer, rows, model=None, **changes):
    args = MLMConfig(
        **{"use_cpu": True, "max_steps": 3, "save_strategy": "no", "static_masks": True, **PROPORTIONAL_STEPS} | changes
    )
    model = make_fnet(tokenizer) if model is None else model
    return MLMTrainer(model, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({}, "padding_free is off: FNetForMaskedLM has its own attention, which cannot be replaced. FNetForMaskedLM: "),
        pytest.param(
            {"padding_free": False}, "FNetForMaskedLM: padding changes a row's result, by", marks=pytest.mark.slow
        ),
        ({"pad_to_multiple_of": 8}, "so rows of one length, in multiples of 8, pass through it together, in training"),
        (
            {"padding": "max_length", "max_length": 40},
            "so every row is padded to 40 tokens, in training and evaluation",
        ),
    ],
)
def test_a_models_loss_does_not_depend_on_the_batch_though_padding_changes_it(
    tokenizer, numbered, layout, said, caplog
):
    """Evaluations, steps and the results of tokens, for whole batches and for rows alone."""
    found, logged = [], []
    for size in (1, 4):
        batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 // size}
        trainer = _fnet_trainer(tokenizer, numbered, per_device_eval_batch_size=size, **layout, **batch)
        nats = trainer.token_results(trainer.eval_dataset).nats
        found.append((trainer.evaluate()["eval_loss"], float(nats.mean())))
        trainer.train()
        losses = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        logged.append((losses, flat_weights(trainer.model)))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0][0] == pytest.approx(found[0][1], rel=1e-6)
    assert_same_run(*logged, make_fnet(tokenizer), 3)
    assert said in caplog.text
    assert "A row's loss then does not depend on its batch." in caplog.text
    assert "the loss is the same" not in caplog.text


def test_each_trainer_asks_again(tokenizer, numbered):
    """A layout of an earlier trainer does not stay."""
    model = make_fnet(tokenizer)
    for layout, multiple in (({"pad_to_multiple_of": 8}, 8), ({}, 1)):
        _fnet_trainer(tokenizer, numbered, model, **layout)
        assert row_multiple(model) == multiple


class _BatchNorm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(32)

    def forward(self, x):
        return self.norm(x.mT).mT


def test_a_model_whose_rows_depend_on_each_other_is_refused(tiny_bert, tokenizer, numbered):
    tiny_bert.bert.embeddings.dropout = _BatchNorm()
    with pytest.raises(ValueError, match="BertForMaskedLM, but a row's result depends on the other rows of its batch"):
        _fnet_trainer(tokenizer, numbered, tiny_bert, padding_free=False)


def _layout(model, tokenizer, sharded, **changes):
    values = {"padding": "longest"} | changes
    args = MLMConfig(use_cpu=True, **values)
    collator = DataCollatorForMaskedLM(tokenizer, max_length=40, padding=values["padding"])
    return choose_layout(model, args, collator, lambda: 40, can_be_parted=True, sharded=sharded)


def test_a_model_that_is_split_over_processes_gets_no_parts(tokenizer, caplog):
    """They pass through it together, whatever asked to split it: the config or the launcher."""
    model = make_model("mpnet", tokenizer)
    assert _layout(model, tokenizer, None).in_parts
    assert "Batches are padded, in parts of similar length; the loss is the same." in caplog.text
    caplog.clear()
    assert not _layout(model, tokenizer, "FSDP").in_parts
    assert "Batches are padded; the loss is the same." in caplog.text
    with pytest.raises(ValueError, match="with FSDP all processes pass through the model together"):
        _layout(make_fnet(tokenizer), tokenizer, "FSDP")
    assert not _layout(make_fnet(tokenizer), tokenizer, "FSDP", padding="max_length").joined
