"""No update is made with a number that is not finite, whether it is read at once or a step later."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from same_run import assert_close
from small_run import NUMBERED, STEPS, At, make_trainer, weights
from transformers import TrainerCallback

from mlm_recipes.checkpoints.storage import list_checkpoints
from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.training.speed.late_values import LateValues

pytestmark = pytest.mark.usefixtures("signals_as_ever")


@pytest.fixture(params=["at once", "a step later"], autouse=True)
def late(request, monkeypatch):
    """Read a step's numbers as on a CPU, or as on a GPU."""
    read_late(monkeypatch, request.param == "a step later")
    return request.param == "a step later"


def read_late(monkeypatch, late):
    monkeypatch.setattr("mlm_recipes.training.trainers.guarded_trainer.reads_late", lambda device: late)


def spoil(value):
    """Give the loss of the next pass a value."""

    def act(model):
        def add(module, arguments, outputs):
            handle.remove()
            outputs["logits"] = outputs["logits"] + value
            return outputs

        handle = model.register_forward_hook(add)

    return act


def spoil_gradient(model):
    handle = model.get_output_embeddings().weight.register_hook(lambda grad: (handle.remove(), grad * torch.nan)[1])


@pytest.mark.parametrize(
    "act", [spoil(torch.nan), pytest.param(spoil(torch.inf), marks=pytest.mark.slow), spoil_gradient]
)
@pytest.mark.parametrize("max_grad_norm", [1.0, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_number_that_is_not_finite_stops_the_run_before_the_update(tokenizer, act, max_grad_norm):
    until = make_trainer(tokenizer, NUMBERED, "until", max_steps=4, lr_scheduler_type="constant")
    until.train()
    values = {"lr_scheduler_type": "constant", "max_grad_norm": max_grad_norm}
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(5, act), **values)
    with pytest.raises(
        ValueError, match=r"train: at step 5 \(learning rate 0.001\).*newest checkpoint is run/checkpoint-4"
    ) as found:
        trainer.train()
    if act is not spoil_gradient:
        order = make_trainer(tokenizer, NUMBERED).epoch_sampler(NUMBERED, 1)
        order.set_epoch(1)
        ids = ", ".join(str(70 + place % 8) for place in list(order)[:2])
        assert f"nan in process 0 (example_id {ids})" in str(found.value)
    if max_grad_norm:
        assert torch.equal(weights(trainer), weights(until))
    assert torch.isfinite(weights(trainer)).all()


def test_an_infinite_loss_with_a_finite_gradient_stops_the_run_too(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED)
    inner = trainer._loss
    trainer._loss = lambda *args: inner(*args) + (torch.inf if trainer.state.global_step == 2 else 0.0)
    with pytest.raises(ValueError, match=r"at step 3 .*the loss is not finite: nan in process 0"):
        trainer.train()


@pytest.mark.slow
def test_the_examples_of_any_micro_batch_are_known(tokenizer):
    """Also after a resume, and if the last step of an epoch has fewer micro-batches than the others."""
    seen = []
    values = {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 1, "max_steps": 7}
    trainer = make_trainer(tokenizer, NUMBERED, **values)
    inner = trainer.training_step

    def training_step(model, inputs, *args, **kwargs):
        said = trainer.examples_of(trainer.state.global_step, len(trainer._losses))
        (row,) = [row for row in NUMBERED if f"example_id {row['example_id']}" == said]
        seen.append(inputs["input_ids"].shape[1] == len(row["input_ids"]))
        return inner(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
    trainer.train()
    seen_at_first = len(seen)
    trainer.train(resume_from_checkpoint="run/checkpoint-4")
    assert seen_at_first > 15
    assert len(seen) > seen_at_first
    assert all(seen)


@pytest.mark.slow
def test_a_non_finite_step_can_be_skipped_and_is_counted(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(3, spoil(torch.nan)), on_nonfinite="skip")
    trainer.train()
    assert trainer.skipped_steps == [3]
    assert trainer.state.global_step == STEPS
    assert torch.isfinite(weights(trainer)).all()
    entries = {entry["step"]: entry for entry in trainer.state.log_history}
    assert "loss" not in entries[3]  # upstream would have logged 0
    assert entries[2]["loss"] > 0 < entries[4]["loss"]
    two = make_trainer(tokenizer, NUMBERED, "two", max_steps=2)
    two.train()
    three = make_trainer(tokenizer, NUMBERED, "two", max_steps=3, callback=At(3, spoil(torch.nan)), on_nonfinite="skip")
    three.args.change_on_resume = ["max_steps"]
    three.train(resume_from_checkpoint=True)
    assert torch.equal(weights(three), weights(two))  # no update, no decay, no momentum
    again = make_trainer(tokenizer, NUMBERED)
    again.train(resume_from_checkpoint="run/checkpoint-4")
    assert again.skipped_steps == [3]
    assert torch.equal(weights(again), weights(trainer))


def test_more_skipped_steps_than_allowed_stop_the_run(tokenizer):
    class Always(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            spoil(torch.nan)(model)

    trainer = make_trainer(tokenizer, NUMBERED, callback=Always(), on_nonfinite="skip", max_skipped_steps=2)
    with pytest.raises(ValueError, match=r"at step 3 .*which were skipped: 1, 2\).*--max_skipped_steps"):
        trainer.train()


@pytest.mark.parametrize("changes", [{"muon": True}, {"optim": "adamw_torch"}, {"optim": "sgd"}])
def test_any_optimizer_can_skip_a_step(tokenizer, changes):
    at_first = make_trainer(tokenizer, NUMBERED)
    trainer = make_trainer(
        tokenizer, NUMBERED, callback=At(1, spoil(torch.nan)), on_nonfinite="skip", max_steps=1, weight_decay=0.1,
        **changes,
    )  # fmt: skip
    trainer.train()
    assert torch.equal(weights(trainer), weights(at_first))


def test_a_skipped_step_is_not_part_of_the_logged_mean(tokenizer):
    values = {"callback": At(2, spoil(torch.nan)), "on_nonfinite": "skip", "max_steps": 3}
    each, mean = (
        make_trainer(tokenizer, NUMBERED, **values),
        make_trainer(tokenizer, NUMBERED, logging_steps=3, **values),
    )
    total = each.train().training_loss, mean.train().training_loss
    losses = [entry["loss"] for entry in each.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert mean.state.log_history[0]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert total[1] == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_nothing_is_saved_with_a_step_that_is_not_finite(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(4, spoil(torch.nan)))
    with pytest.raises(ValueError, match=r"at step 4 .*newest checkpoint is run/checkpoint-2"):
        trainer.train()
    assert [path.name for path in list_checkpoints(Path("run"))] == ["checkpoint-2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 3, "max_grad_norm": 1e9},
        *(
            pytest.param(values, marks=pytest.mark.slow)
            for values in (
                {"logging_steps": 4, "eval_strategy": "epoch", "max_grad_norm": 1e9},
                {"logging_strategy": "epoch", "save_strategy": "epoch", "optim": "adamw_torch"},
                {"muon": True, "max_grad_norm": 1e9},
            )
        ),
        {"logging_first_step": True, "logging_steps": 5, "max_grad_norm": 0.0, "save_strategy": "no"},
    ],
)
def test_a_run_is_the_same_if_its_numbers_are_read_a_step_later(tokenizer, monkeypatch, changes):
    found = []
    for late in (False, True):
        read_late(monkeypatch, late)
        seen = []
        trainer = make_trainer(tokenizer, NUMBERED, f"run-{late}", callback=At(5, lambda model: None), **changes)
        trainer.callback_handler.callbacks[-1].on_log = lambda args, state, control, logs, seen=seen, **kwargs: (
            seen.append((state.global_step, state.epoch, {name: logs[name] for name in logs if "loss" in name}))
        )
        result = trainer.train()
        history = [
            {name: value for name, value in entry.items() if "runtime" not in name and "per_second" not in name}
            for entry in trainer.state.log_history
        ]
        found.append((history, seen, result.training_loss, weights(trainer).tolist(), trainer.state.global_step))
        assert not {"found_inf", "grad_scale"} & vars(trainer.optimizer.optimizer).keys()
    assert found[0] == found[1]


class Watch(TrainerCallback):
    """Note before each update how many numbers have been read."""

    def __init__(self, read):
        self.read, self.seen = read, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.seen.append(len(self.read))


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
def test_the_update_waits_for_the_norm_only_where_the_optimizer_cannot_decide(
    tokenizer, late, monkeypatch, optim, muon
):
    read = []
    inner = LateValues.read
    monkeypatch.setattr(LateValues, "read", lambda self: read.append(self) or inner(self))
    watch = Watch(read)
    make_trainer(tokenizer, NUMBERED, callback=watch, max_steps=2, logging_steps=9, optim=optim, muon=muon).train()
    assert (watch.seen[0] == 0) == (late and optim == "adamw_torch_fused")


def test_clipping_within_the_optimizer_equals_clipping_before_it(tokenizer, monkeypatch):
    found = []
    for late in (False, True):
        read_late(monkeypatch, late)
        trainer = make_trainer(tokenizer, NUMBERED, max_steps=1, max_grad_norm=1e-3, save_strategy="no")
        trainer.train()
        # The first moment is a tenth of the clipped gradient.
        moments = [state["exp_avg"].flatten() for state in trainer.optimizer.state.values()]
        found.append((torch.cat(moments), trainer.state.log_history[0]["grad_norm"]))
    assert found[0][1] == found[1][1] > 1e-3
    assert found[0][0].norm().item() == pytest.approx(1e-4, rel=1e-3)
    assert_close(*(moments for moments, _ in found), rounding_bound(4))  # a product, or a quotient


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_on_a_gpu_no_update_is_made_with_a_step_that_is_not_finite(tokenizer, muon, bad):
    values = {"use_cpu": False, "bf16": True, "muon": muon, "weight_decay": 0.1}
    kept = []

    def act(model):
        kept.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        spoil(bad)(model)

    skipped = make_trainer(
        tokenizer, NUMBERED, "skipped", max_steps=3, callback=At(3, act), on_nonfinite="skip", **values
    )
    skipped.train()
    assert skipped.skipped_steps == [3]
    assert torch.equal(weights(skipped), kept[0])
    stopped = make_trainer(tokenizer, NUMBERED, "stopped", callback=At(3, act), **values)
    with pytest.raises(ValueError, match=r"at step 3 .*newest checkpoint is stopped/checkpoint-2"):
        stopped.train()
    assert torch.equal(weights(stopped), kept[1])
