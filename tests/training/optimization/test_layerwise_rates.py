"""Lower layers learn at lower rates, with every optimizer, and after a resume."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from small_run import NUMBERED, STEPS, make_trainer, weights

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.model.layers import depths
from mlm_recipes.training.optimization.layerwise_rates import split_by_depth

DECAY = {"layerwise_lr_decay": 0.5, "save_strategy": "no", "disable_tqdm": True}


def rates(trainer):
    """Return the learning rate of each parameter that the optimizer has, by name."""
    names = {weight: name for name, weight in trainer.model.named_parameters()}
    return {names[weight]: group["lr"] for group in trainer.optimizer.param_groups for weight in group["params"]}


@pytest.mark.parametrize("optimizer", [{}, {"muon": True}, {"optim": "sgd"}, {"optim": "adafactor"}])
def test_each_layer_has_half_the_rate_of_the_one_above(tokenizer, optimizer):
    trainer = make_trainer(tokenizer, NUMBERED, **DECAY, **optimizer)
    trainer.create_optimizer()
    found = rates(trainer)
    assert found.keys() == {name for name, _ in trainer.model.named_parameters()}
    for name, rate in found.items():
        share = next((share for part, share in (("embeddings", 8), ("r.0.", 4), ("r.1.", 2)) if part in name), 1)
        assert rate == 1e-3 / share, name
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-3  # the rate that is logged


@pytest.mark.parametrize("optimizer", [{}, {"muon": True}])
def test_only_the_rate_differs_between_the_groups(tokenizer, optimizer):
    values = {"weight_decay": 0.1} | optimizer
    plain = make_trainer(tokenizer, NUMBERED, **values)
    plain.create_optimizer()
    decayed = make_trainer(tokenizer, NUMBERED, **DECAY, **values)
    decayed.create_optimizer()

    def others(trainer):
        names = {weight: name for name, weight in trainer.model.named_parameters()}
        return {
            names[weight]: {key: value for key, value in group.items() if key not in ("params", "lr")}
            for group in trainer.optimizer.param_groups
            for weight in group["params"]
        }

    assert others(plain) == others(decayed)


def test_a_step_is_as_large_as_the_rate(tokenizer):
    """With Adam's first step, a weight moves by its rate, whatever its gradient, if that is not tiny."""
    trainer = make_trainer(
        tokenizer, NUMBERED, max_steps=1, lr_scheduler_type="constant", adam_epsilon=1e-20, max_grad_norm=0.0, **DECAY
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    for name, share in (("bert.encoder.layer.0", 4), ("bert.encoder.layer.1", 2), ("cls.predictions.transform", 1)):
        name += ".output.dense.weight" if "layer" in name else ".dense.weight"
        moved = (trainer.model.get_parameter(name) - before[name]).abs()
        # A difference of two weights of at most 0.2 rounds by their eps.
        assert moved.median().item() == pytest.approx(1e-3 / share, abs=0.2 * 2**-23)


@pytest.mark.slow
@pytest.mark.parametrize("muon", [True, False])
def test_a_resumed_run_is_the_uninterrupted_one(tokenizer, tmp_path, muon):
    values = {"layerwise_lr_decay": 0.5, "muon": muon, "disable_tqdm": True}
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values)
    whole.train()
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values)
    resumed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")
    assert torch.equal(weights(resumed), weights(whole))


def test_a_changed_learning_rate_changes_that_of_every_layer(tokenizer, tmp_path):
    values = {"layerwise_lr_decay": 0.5, "lr_scheduler_type": "constant", "disable_tqdm": True}
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values).train()
    values |= {"learning_rate": 4e-3, "change_on_resume": ["learning_rate"]}
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values)
    resumed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")
    assert sorted(set(rates(resumed).values())) == [5e-4, 1e-3, 2e-3, 4e-3]
    assert resumed.state.log_history[-2]["learning_rate"] == 4e-3
    assert resumed.state.global_step == STEPS


def test_another_decay_is_another_run(tokenizer, tmp_path):
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", disable_tqdm=True).train()
    changed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", layerwise_lr_decay=0.5, disable_tqdm=True)
    with pytest.raises(ValueError, match=r"belongs to another run: layerwise_lr_decay was 1.0 and is now 0.5"):
        changed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")


def test_an_optimizer_of_the_callers_is_refused(tokenizer):
    model = make_bert(tokenizer)
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    args = MLMConfig(use_cpu=True, layerwise_lr_decay=0.9)
    with pytest.raises(ValueError, match=r"^layerwise_lr_decay: received 0.9 with your own optimizer"):
        MLMTrainer(model, args, train_dataset=NUMBERED, processing_class=tokenizer, optimizers=(own, None))


def test_an_optimizer_without_rates_is_refused(tokenizer):
    model = make_bert(tokenizer)
    depth = {model.get_parameter(name): depth for name, depth in depths(model, None, "layerwise_lr_decay").items()}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=r"received 0.5 with SGD, whose groups have no learning rate for each"):
        split_by_depth(optimizer, depth, 0.5)
