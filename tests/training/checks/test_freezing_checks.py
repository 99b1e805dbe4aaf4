"""A run with a frozen part: nothing of it changes, every fast path stays on, and a resume is exact."""

from __future__ import annotations

import pytest
import torch
from conftest import CHECKPOINTING
from small_run import NUMBERED, make_trainer, weights

from mlm_recipes import MLMConfig
from mlm_recipes.checkpoints.value_kinds import kind

FROZEN = {"freeze": "lower-1", "disable_tqdm": True, "weight_decay": 0.1}


def state_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("part", ["embeddings", "lower-1", "body"])
@pytest.mark.parametrize(
    "more",
    [
        {"muon": True},
        *(
            pytest.param(values, marks=pytest.mark.slow)
            for values in ({}, {"bf16": True}, {CHECKPOINTING: True}, {"padding_free": False})
        ),
    ],
)
def test_frozen_weights_stay_and_the_others_learn(tokenizer, part, more):
    trainer = make_trainer(tokenizer, NUMBERED, max_steps=2, save_strategy="no", **FROZEN | {"freeze": part} | more)
    assert trainer.padding_free == more.get("padding_free", True)
    assert trainer.sparse_prediction
    before = state_of(trainer.model)
    learning = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    trainer.train()
    changed = {name for name, weight in state_of(trainer.model).items() if not torch.equal(weight, before[name])}
    assert changed == learning
    assert all(weight.grad is None for name, weight in trainer.model.named_parameters() if name not in learning)
    optimized = {weight for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert optimized == {trainer.model.get_parameter(name) for name in learning}


def test_checkpointing_changes_nothing(tokenizer):
    plain = make_trainer(tokenizer, NUMBERED, save_strategy="no", **FROZEN)
    plain.train()
    checkpointed = make_trainer(tokenizer, NUMBERED, save_strategy="no", **FROZEN, **{CHECKPOINTING: True})
    checkpointed.train()
    assert torch.equal(weights(plain), weights(checkpointed))


@pytest.mark.parametrize("part", ["lower-1", "body"])
def test_a_resumed_run_is_the_uninterrupted_one(tokenizer, tmp_path, part):
    values = FROZEN | {"freeze": part}
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values)
    whole.train()
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values)
    resumed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")
    assert torch.equal(weights(resumed), weights(whole))


def test_another_part_is_another_run(tokenizer, tmp_path):
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", **FROZEN).train()
    changed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **FROZEN | {"freeze": "body"})
    with pytest.raises(ValueError, match="belongs to another run: freeze was 'lower-1' and is now 'body'"):
        changed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")
    assert {kind(name) for name in ("freeze", "layerwise_lr_decay", "head_warmup_steps")} == {"fixed"}


def test_a_part_that_is_set_later_is_refused(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, save_strategy="no", disable_tqdm=True)
    trainer.args.freeze = "body"
    with pytest.raises(ValueError, match=r"^freeze: received 'body' in trainer\.args"):
        trainer.train()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze": "top"}, r"^freeze: received 'top'. Accepted: none, embeddings, lower-N"),
        ({"layerwise_lr_decay": 0}, r"^layerwise_lr_decay: received 0. Accepted: above 0, at most 1"),
        ({"layerwise_lr_decay": 1.1}, r"^layerwise_lr_decay: received 1.1. Accepted: above 0, at most 1"),
        ({"head_warmup_steps": -1}, r"^head_warmup_steps: received -1.0. Accepted: a number of steps"),
        ({"head_warmup_steps": "soon"}, r"^head_warmup_steps: received 'soon'. Accepted: a number of steps"),
        (
            {"freeze": "body", CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": True}},
            r"^gradient_checkpointing_kwargs: received use_reentrant: true with freeze 'body'",
        ),
    ],
)
def test_a_wrong_value_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MLMConfig(use_cpu=True, **values)


@pytest.mark.parametrize("values", [{"freeze": "body"}, {"layerwise_lr_decay": 0.9}, {"head_warmup_steps": 0.1}])
def test_sharded_weights_are_refused(values):
    with pytest.raises(ValueError, match=rf"^{next(iter(values))}: received .* with FSDP. Accepted: "):
        MLMConfig(use_cpu=True, fsdp="full_shard", **values)
