"""A run that stops early says why; what callbacks count survives a resume."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from small_run import NUMBERED, At, make_trainer, weights
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from mlm_recipes import train
from mlm_recipes.training.callbacks.early_stopping import EarlyStopping
from mlm_recipes.training.faults.stop_signals import Interrupted
from mlm_recipes.training.trainers import evaluating_trainer

EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 20}
UNSAVED = EACH_STEP | {"save_strategy": "no"}


@pytest.fixture
def losses(monkeypatch):
    """Let the evaluation after each step return this loss, and an accuracy that disagrees with it."""

    def losses(by_step):
        def compute(sums):
            loss = by_step[len(taken)]
            taken.append(loss)
            return {"loss": loss, "accuracy": loss / 10, "perplexity": math.exp(loss), "masked_tokens": 9}

        taken = []
        monkeypatch.setattr(evaluating_trainer, "compute", compute)
        return taken

    return losses


class Counts(TrainerCallback, ExportableState):
    """A callback of a caller's: it stops a run after a number of evaluations."""

    def __init__(self, most=99):
        self.most, self.seen = most, 0

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen += 1
        control.should_training_stop |= self.seen >= self.most

    def state(self):
        return {"args": {"most": self.most}, "attributes": {"seen": self.seen}}


@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({"early_stopping_patience": 2}, 5),
        pytest.param({"early_stopping_patience": 1}, 4, marks=pytest.mark.slow),
        ({"early_stopping_patience": 2, "early_stopping_threshold": 0.5}, 4),  # from 2.0 to 1.9 is not enough
        ({"early_stopping_patience": 2, "metric_for_best_model": "perplexity"}, 5),
        ({"early_stopping_patience": 2, "metric_for_best_model": "accuracy"}, 3),  # which never rises
    ],
    ids=str,
)
def test_a_run_stops_after_evaluations_without_an_improvement(tokenizer, losses, changes, stopped, caplog):
    losses([3.0, 2.0, 1.9, 2.5, 2.5, 0.1, 0.1])
    trainer = make_trainer(tokenizer, NUMBERED, **UNSAVED, **changes)
    assert trainer.train().global_step == stopped
    patience = changes["early_stopping_patience"]
    assert f"Stopped early after step {stopped} of 20: in {patience} evaluation" in caplog.text


def test_the_set_that_decides_is_the_only_one_that_counts(tokenizer, losses, caplog):
    losses([1.0, 3.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0])
    trainer = make_trainer(
        tokenizer, NUMBERED, eval_rows={"a": NUMBERED[:4], "b": NUMBERED[4:]}, early_stopping_patience=2,
        metric_for_best_model="eval_b_loss", **UNSAVED,
    )  # fmt: skip
    assert trainer.train().global_step == 5
    assert "did not find" not in caplog.text


def test_a_second_run_of_a_trainer_counts_anew(tokenizer, losses):
    trainer = make_trainer(tokenizer, NUMBERED, early_stopping_patience=2, **UNSAVED)
    for _ in range(2):
        losses([2.0, 3.0, 1.0, 3.0, 3.0])
        assert trainer.train().global_step == 5


@pytest.mark.parametrize("kind", ["config", pytest.param("transformers", marks=pytest.mark.slow)])
def test_the_count_survives_an_interruption(tokenizer, losses, kind, signals_as_ever):
    values = EACH_STEP | {"save_steps": 50, "metric_for_best_model": "loss"}

    def trainer(folder, *more):
        if kind == "config":
            return make_trainer(tokenizer, NUMBERED, folder, *more, early_stopping_patience=3, **values)
        made = make_trainer(tokenizer, NUMBERED, folder, *more, **values)
        made.add_callback(EarlyStoppingCallback(3))
        return made

    losses([2.0, 1.0, 3.0, 3.0, 3.0, 0.5, 0.5])
    whole = trainer("whole")
    assert whole.train().global_step == 5
    losses([2.0, 1.0, 3.0, 3.0])
    with pytest.raises(Interrupted):
        trainer("run", At(4, lambda model: os.kill(os.getpid(), signal.SIGTERM))).train()
    losses([3.0, 0.5, 0.5])
    again = trainer("run")
    assert again.train(resume_from_checkpoint=True).global_step == 5
    assert (weights(again) == weights(whole)).all()


@pytest.mark.slow
def test_a_run_that_had_stopped_is_not_trained_further(tokenizer, losses, caplog):
    values = EACH_STEP | {"save_steps": 1, "early_stopping_patience": 1}
    losses([1.0, 2.0])
    first = make_trainer(tokenizer, NUMBERED, **values)
    assert first.train().global_step == 2
    losses([])
    again = make_trainer(tokenizer, NUMBERED, **values)
    assert again.train(resume_from_checkpoint=True).global_step == 2
    assert (weights(again) == weights(first)).all()
    assert "had stopped early, so nothing is left to train" in caplog.text
    losses([2.0, 0.5, 3.0, 3.0])
    patient = make_trainer(
        tokenizer, NUMBERED, change_on_resume=["early_stopping_patience"], **values | {"early_stopping_patience": 2}
    )
    assert patient.train(resume_from_checkpoint=True).global_step == 3  # the second evaluation without an improvement


def test_another_measure_of_a_resumed_run_is_not_compared_with_the_values_of_the_first(tokenizer, losses):
    values = EACH_STEP | {"save_steps": 1, "load_best_model_at_end": True, "early_stopping_patience": 1}
    losses([3.0, 2.0])
    make_trainer(tokenizer, NUMBERED, **values | {"max_steps": 2}).train()
    losses([4.0, 5.0, 1.0])
    change = ["metric_for_best_model", "greater_is_better", "max_steps"]
    other = make_trainer(
        tokenizer, NUMBERED, metric_for_best_model="accuracy", change_on_resume=change, **values | {"max_steps": 9}
    )
    assert other.train(resume_from_checkpoint="run/checkpoint-2").global_step == 5  # 0.1 is no improvement on 0.5
    assert (other.state.best_metric, other.state.best_global_step) == (0.5, 4)
    assert other.state.best_model_checkpoint == str(Path("run/checkpoint-4"))
    saved = type(other.model).from_pretrained("run/checkpoint-4")
    assert torch.equal(weights(other), torch.cat([weight.detach().flatten() for weight in saved.parameters()]))


def test_a_measure_that_a_run_was_best_by_before_is_found_in_its_history(tokenizer, losses):
    values = EACH_STEP | {"save_steps": 1, "load_best_model_at_end": True}
    losses([3.0, 2.0])
    make_trainer(tokenizer, NUMBERED, **values | {"max_steps": 2}).train()
    losses([1.0])
    change = ["metric_for_best_model", "greater_is_better", "max_steps"]
    other = make_trainer(
        tokenizer, NUMBERED, metric_for_best_model="accuracy", change_on_resume=change, **values | {"max_steps": 3}
    )
    other.train(resume_from_checkpoint="run/checkpoint-2")
    assert (other.state.best_metric, other.state.best_global_step) == (pytest.approx(0.3), 1)
    assert other.state.best_model_checkpoint == str(Path("run/checkpoint-1"))


def test_a_changed_patience_must_be_named(tokenizer, losses):
    values = EACH_STEP | {"save_steps": 1, "early_stopping_patience": 1}
    losses([1.0, 2.0])
    make_trainer(tokenizer, NUMBERED, **values).train()
    with pytest.raises(ValueError, match="early_stopping_patience was 1 and is now 3"):
        make_trainer(tokenizer, NUMBERED, **values | {"early_stopping_patience": 3}).train(True)


@pytest.mark.slow
@pytest.mark.parametrize("restores", [True, False])
def test_what_callbacks_of_the_callers_remember_is_restored(tokenizer, restores):
    values = EACH_STEP | {"save_steps": 2, "max_steps": 4, "restore_callback_states_from_checkpoint": restores}
    make_trainer(tokenizer, NUMBERED, callback=Counts(), **values).train()
    mine = Counts(most=3)
    trainer = make_trainer(tokenizer, NUMBERED, callback=mine, **values)
    assert trainer.train(resume_from_checkpoint="run/checkpoint-2").global_step == 3
    assert mine.seen == 3  # the object that was given, with its own argument


@pytest.mark.slow
def test_two_callbacks_of_one_class_each_get_their_own_state_back(tokenizer):
    values = EACH_STEP | {"save_steps": 1, "max_steps": 4}

    def trainer():
        made = make_trainer(tokenizer, NUMBERED, **values)
        counts = Counts(), Counts()
        counts[1].seen = 10
        for each in counts:
            made.add_callback(each)
        return made, counts

    trainer()[0].train()
    made, counts = trainer()
    made.train(resume_from_checkpoint="run/checkpoint-3")
    assert [each.seen for each in counts] == [4, 14]
    assert len(made.state.stateful_callbacks["Counts"]) == 2


def test_a_callback_can_be_added_when_a_run_is_resumed(tokenizer):
    values = EACH_STEP | {"save_steps": 1, "max_steps": 3}
    make_trainer(tokenizer, NUMBERED, **values).train()
    added = Counts()
    make_trainer(tokenizer, NUMBERED, callback=added, **values).train(resume_from_checkpoint="run/checkpoint-2")
    assert added.seen == 1


@pytest.mark.slow
def test_the_result_says_that_it_stopped_early(checkpoint, short_text):
    result = train(
        "adapt", model=str(checkpoint), corpus=str(short_text), general_corpus="none", max_steps=9, use_cpu=True,
        eval_strategy="steps", eval_steps=1, save_strategy="no", early_stopping_patience="2",
        early_stopping_threshold="100", per_device_train_batch_size=4, eval_draws=1, pseudo_perplexity_tokens=64,
        prompts_compared=5,
    )  # fmt: skip
    metrics = result.metrics["train"]
    assert metrics["steps"] == 3
    stopped, best = metrics["stopped_early"], metrics["best_model"]
    assert (stopped["step"], stopped["of"], stopped["metric"], stopped["evaluations_since"]) == (3, 9, "loss", 2)
    assert best["value"] == stopped["best"] == min(entry["loss"] for entry in metrics["evaluations"])
    assert best["loaded"] is False
    assert "Stopped early after step 3 of 9" in str(result).replace("\n", " ")


def test_stopping_early_is_not_said_of_a_run_that_reached_its_end(tokenizer, losses, caplog):
    losses([1.0, 2.0, 3.0])
    trainer = make_trainer(tokenizer, NUMBERED, early_stopping_patience=2, **UNSAVED | {"max_steps": 3})
    assert any(isinstance(each, EarlyStopping) for each in trainer.callback_handler.callbacks)
    trainer.train()
    assert "Stopped early" not in caplog.text
