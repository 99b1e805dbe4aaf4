"""Muon for a model's inner matrices, AdamW for the rest, in one optimizer that can be saved."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import make_bert, make_model

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.optimization.muon import MuonWithAdamW, muon_with_adamw


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 6), (6, 4), (5,), (7, 3))]


def learn(given, optimizers, steps=3):
    for step in range(steps):
        for parameter in given:
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
        for optimizer in optimizers:
            optimizer.step()


def test_updates_equal_torchs_muon_and_adamw():
    ours, theirs = parameters(), parameters()
    one = MuonWithAdamW(
        [{"params": ours[:2], "weight_decay": 0.1}], [{"params": ours[2:]}], lr=0.01, betas=(0.8, 0.9), eps=1e-6,
        dtype=torch.bfloat16,
    )  # fmt: skip
    two = (
        torch.optim.Muon(theirs[:2], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(theirs[2:], lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.0),
    )
    learn(ours, [one])
    learn(theirs, two)
    for a, b, start in zip(ours, theirs, parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, start)


def test_a_reloaded_optimizer_continues_identically():
    whole, split = parameters(), parameters()
    optimizer = MuonWithAdamW([{"params": whole[:2]}], [{"params": whole[2:]}], lr=0.01)
    learn(whole, [optimizer], steps=5)
    first = MuonWithAdamW([{"params": split[:2]}], [{"params": split[2:]}], lr=0.01)
    learn(split, [first], steps=2)
    state = copy.deepcopy(first.state_dict())
    second = MuonWithAdamW([{"params": split[:2]}], [{"params": split[2:]}], lr=0.5)
    second.load_state_dict(state)
    for step in range(2, 5):
        for parameter in split:
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, split, strict=True))


def test_a_schedule_reaches_both():
    given = parameters()
    optimizer = MuonWithAdamW([{"params": given[:2]}], [{"params": given[2:]}], lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    learn(given, [optimizer])
    schedule.step()
    assert all(torch.equal(a, b) for a, b in zip(given, parameters(), strict=True))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_muon_gets_only_the_inner_matrices(architecture, tokenizer):
    model = make_model(architecture, tokenizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = [name for name in names.values() if "bias" not in name and "norm" not in name.lower()]
    optimizer = muon_with_adamw(model, decayed, 0.1, lr=1e-3)
    found = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(found) == sorted(names.values())
    muon = {names[id(p)] for group in optimizer.param_groups if "momentum" in group for p in group["params"]}
    inner = {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and "embeddings" not in name and "decoder" not in name and "projector" not in name
    }
    assert muon == inner
    assert len(muon) >= 2 * 4 + 1
    for group in optimizer.param_groups:
        assert {names[id(p)] in decayed for p in group["params"]} == {group["weight_decay"] == 0.1}


def test_untied_embeddings_stay_with_adamw(tokenizer):
    model = make_bert(tokenizer, tie_word_embeddings=False)
    optimizer = muon_with_adamw(model, (), 0.0, lr=1e-3)
    muon = {id(p) for group in optimizer.param_groups if "momentum" in group for p in group["params"]}
    assert id(model.get_output_embeddings().weight) not in muon
    assert id(model.get_input_embeddings().weight) not in muon


def test_a_resumed_run_ends_with_the_same_weights(tiny_bert, tokenizer, rows, tmp_path):
    values = {
        "muon": True, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2,
        "per_device_train_batch_size": 4, "use_cpu": True,
    }  # fmt: skip

    def train(folder, **checkpoint):
        trainer = MLMTrainer(
            copy.deepcopy(tiny_bert), args=MLMConfig(output_dir=str(tmp_path / folder), **values),
            train_dataset=rows, processing_class=tokenizer,
        )  # fmt: skip
        trainer.train(**checkpoint)
        return trainer

    whole = train("whole")
    assert isinstance(whole.optimizer.optimizer, MuonWithAdamW)
    resumed = train("resumed", resume_from_checkpoint=tmp_path / "whole/checkpoint-2")
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert any(not torch.equal(a, b) for a, b in zip(whole.model.parameters(), tiny_bert.parameters(), strict=True))


def test_muon_with_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="muon: received True with optim 'adafactor'"):
        MLMConfig(muon=True, use_cpu=True, optim="adafactor")
