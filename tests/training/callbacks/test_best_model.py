"""The best model is the best by its measure, is named, is kept, and is loaded; what cannot be the best is refused."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from small_run import NUMBERED, At, make_trainer, weights
from transformers import EarlyStoppingCallback

from mlm_recipes import MLMConfig
from mlm_recipes.training.faults.stop_signals import Interrupted
from mlm_recipes.training.trainers import evaluating_trainer

OFTEN = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2}
UNSAVED = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
AN_EPOCH = 4  # steps


@pytest.fixture
def measured(monkeypatch):
    """Let evaluations return these losses, one after the other; accuracy rises as the loss falls."""

    def measured(*losses):
        left = iter(losses)

        def compute(sums):
            loss = next(left)
            return {"loss": loss, "accuracy": 1 / (1 + loss), "perplexity": math.exp(loss), "masked_tokens": 9}

        monkeypatch.setattr(evaluating_trainer, "compute", compute)

    return measured


def kept(folder="run"):
    return sorted(path.name for path in Path(folder).glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        *(("loss", False), ("perplexity", False), ("accuracy", True)),
        *(("eval_loss", False), ("eval_perplexity", False), ("eval_accuracy", True)),
        *(("eval_legal_perplexity", False), ("legal_accuracy", True)),
    ],
)
def test_each_measure_has_its_direction(metric, higher):
    assert MLMConfig(metric_for_best_model=metric, eval_strategy="epoch").greater_is_better is higher


def test_a_measure_of_the_callers_has_the_direction_of_transformers():
    assert MLMConfig(metric_for_best_model="f1", eval_strategy="epoch").greater_is_better is True
    assert MLMConfig(metric_for_best_model="my_loss", eval_strategy="epoch").greater_is_better is False


@pytest.mark.parametrize("metric", ["loss", "perplexity", "accuracy", "eval_perplexity", "eval_accuracy"])
def test_the_best_evaluation_is_the_best_by_any_measure(tokenizer, measured, metric):
    measured(3.0, 1.0, 2.0)
    trainer = make_trainer(tokenizer, NUMBERED, metric_for_best_model=metric, **UNSAVED)
    trainer.train()
    best = {"loss": 1.0, "perplexity": math.e, "accuracy": 0.5}[metric.removeprefix("eval_")]
    assert trainer.state.best_metric == pytest.approx(best)


@pytest.mark.parametrize(("metric", "best"), [("eval_b_perplexity", math.e), ("b_accuracy", 0.5)])
def test_one_of_several_evaluation_sets_decides(tokenizer, measured, metric, best):
    measured(*(0.5, 3.0), *(2.0, 1.0), *(3.0, 2.0))
    sets = {"a": NUMBERED[:4], "b": NUMBERED[4:]}
    trainer = make_trainer(tokenizer, NUMBERED, eval_rows=sets, metric_for_best_model=metric, **UNSAVED)
    trainer.train()
    assert trainer.state.best_metric == pytest.approx(best)


def test_the_best_model_is_loaded(tokenizer, measured):
    measured(3.0, 1.0, 2.0)
    then = []
    keep = At(5, lambda model: then.append([weight.detach().clone() for weight in model.parameters()]))
    trainer = make_trainer(
        tokenizer, NUMBERED, callback=keep, metric_for_best_model="perplexity", load_best_model_at_end=True, **OFTEN
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(Path("run/checkpoint-4"))
    assert all(torch.equal(a, b) for a, b in zip(then[0], trainer.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"load_best_model_at_end": True}, "load_best_model_at_end: received True with eval_strategy 'no'"),
        ({"load_best_model_at_end": True, "save_strategy": "no"}, "load_best_model_at_end: received True with eval_st"),
        ({"save_strategy": "best"}, "save_strategy: received 'best' with eval_strategy 'no'"),
        ({"metric_for_best_model": "accuracy"}, "metric_for_best_model: received 'accuracy' with eval_strategy 'no'"),
        ({"early_stopping_patience": 2}, "early_stopping_patience: received 2 with eval_strategy 'no'"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type: received 'reduce_lr_on_plateau' with eval"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "epoch"},
            "received True with eval_strategy 'epoch' and save_strategy 'steps'. .*Pass --save_strategy epoch",
        ),
        ({"early_stopping_patience": 0, "eval_strategy": "epoch"}, "early_stopping_patience: received 0"),
        ({"early_stopping_threshold": 0.1}, "early_stopping_threshold: received 0.1 without early_stopping_patience"),
        ({"early_stopping_threshold": -1.0}, r"early_stopping_threshold: received -1\.0"),
    ],
    ids=str,
)
def test_a_best_model_without_evaluations_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric_for_best_model": "f1"}, "received 'f1'.* Accepted: loss, perplexity, accuracy"),
        ({"metric_for_best_model": "eval_acuracy"}, "received 'eval_acuracy'"),
        ({"metric_for_best_model": "masked_tokens"}, "received 'masked_tokens'"),
        ({"metric_for_best_model": "runtime"}, "received 'runtime'"),
        ({"metric_for_best_model": "eval_legal_loss"}, "received 'eval_legal_loss'"),  # there is only one data set
        (
            {"metric_for_best_model": "loss", "eval_rows": {"a": NUMBERED, "b": NUMBERED}},
            "received 'loss'.* Accepted: eval_a_loss, eval_a_perplexity, .*eval_b_accuracy, since there are several",
        ),
        (
            {"metric_for_best_model": "perplexity", "greater_is_better": True},
            "greater_is_better: received True with metric_for_best_model 'perplexity'. Accepted: False",
        ),
        (
            {"metric_for_best_model": "eval_accuracy", "greater_is_better": False},
            "greater_is_better: received False with metric_for_best_model 'eval_accuracy'. Accepted: True",
        ),
        ({"eval_rows": None}, "eval_dataset: received None with eval_strategy 'steps'"),
        ({"eval_rows": {}}, "eval_dataset: received None with eval_strategy 'steps'"),
        ({"eval_rows": None, "eval_strategy": "no", "eval_on_start": True}, "received None with eval_on_start True"),
    ],
)
def test_what_cannot_be_the_best_is_refused_before_the_first_step(tokenizer, changes, says):
    with pytest.raises(ValueError, match=says):
        make_trainer(tokenizer, NUMBERED, **(OFTEN | changes))


@pytest.mark.parametrize("changes", [{}, {"eval_strategy": "epoch"}, {"metric_for_best_model": None}])
def test_a_callback_that_stops_early_needs_evaluations_and_a_measure(tokenizer, changes):
    fine = bool(changes.get("eval_strategy"))
    trainer = make_trainer(tokenizer, NUMBERED, callback=EarlyStoppingCallback(), **changes)
    with pytest.raises(ValueError, match="EarlyStoppingCallback: received with eval_strategy"):
        trainer.train()
    if fine:
        make_trainer(tokenizer, NUMBERED, callback=EarlyStoppingCallback(), metric_for_best_model="loss", **changes)
    assert trainer.state.global_step == 0


def test_a_run_that_ends_before_its_first_evaluation_is_refused(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, metric_for_best_model="loss", eval_delay=7, **OFTEN)
    with pytest.raises(ValueError, match="eval_delay: received 7 in a run of 6 steps"):
        trainer.train()
    trainer = make_trainer(
        tokenizer, NUMBERED, metric_for_best_model="loss", eval_delay=2, **(OFTEN | {"eval_strategy": "epoch"})
    )
    with pytest.raises(ValueError, match=r"eval_delay: received 2 in a run of 1\.5 epochs"):
        trainer.train()


@pytest.mark.parametrize("changes", [{}, {"lr_scheduler_type": "reduce_lr_on_plateau"}, {"early_stopping_patience": 1}])
def test_the_first_evaluation_decides_if_the_caller_measures(tokenizer, changes):
    trainer = make_trainer(
        tokenizer, NUMBERED, metric_for_best_model="f2", compute_metrics=lambda found: {"f1": 0.5}, **UNSAVED, **changes
    )
    says = (
        r"metric_for_best_model: received 'f2', and the evaluation returned no eval_f2\. Accepted: "
        r"eval_loss, eval_accuracy, eval_perplexity, eval_f1\. Name one"
    )
    with pytest.raises(ValueError, match=says):
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_measure_of_the_callers_selects_and_its_direction_is_said(tokenizer, caplog):
    scores = iter([0.1, 0.3, 0.2])
    trainer = make_trainer(
        tokenizer, NUMBERED, metric_for_best_model="f1", compute_metrics=lambda found: {"f1": next(scores)}, **UNSAVED
    )
    assert "f1 is not one of this library's measures; the highest value counts as the best" in caplog.text
    trainer.train()
    assert trainer.state.best_metric == 0.3


@pytest.mark.parametrize(("losses", "best", "limit"), [((1.0, 2.0), 4, 1), ((2.0, 1.0), 8, 1), ((1.0, 2.0), 4, 2)])
def test_an_epochs_evaluation_names_the_checkpoint_of_the_same_step(tokenizer, measured, losses, best, limit):
    measured(*losses)
    trainer = make_trainer(
        tokenizer, NUMBERED, max_steps=8, eval_strategy="epoch", save_steps=4, save_total_limit=limit,
        metric_for_best_model="loss",
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(Path(f"run/checkpoint-{best}"))
    assert f"checkpoint-{best}" in kept()
    if limit == 1:
        assert kept() == [f"checkpoint-{best}"]
    state = json.loads(Path(f"run/checkpoint-{best}/trainer_state.json").read_text("utf-8"))
    assert state["best_global_step"] == best
    assert state["best_model_checkpoint"] == str(Path(f"run/checkpoint-{best}"))


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_strategy": "epoch", "save_steps": 4},
        {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "best"},
        pytest.param(
            {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 4, "load_best_model_at_end": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_a_resumed_run_keeps_the_best(tokenizer, measured, changes, signals_as_ever):
    values = {"max_steps": 12, "save_total_limit": 1, "metric_for_best_model": "perplexity"} | changes
    measured(1.0)
    stop = At(7, lambda model: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        make_trainer(tokenizer, NUMBERED, callback=stop, **values).train()
    assert {"checkpoint-4", "checkpoint-7"} <= set(kept())
    measured(3.0, 2.0)
    again = make_trainer(tokenizer, NUMBERED, **values)
    again.train(resume_from_checkpoint=True)
    assert again.state.best_global_step == 4
    assert again.state.best_model_checkpoint == str(Path("run/checkpoint-4"))
    assert kept() == ["checkpoint-4"]


def test_the_best_checkpoint_of_a_run_that_was_moved_is_found(tokenizer, measured, signals_as_ever):
    values = OFTEN | {"max_steps": 8, "metric_for_best_model": "loss", "load_best_model_at_end": True}
    measured(1.0, 2.0)
    stop = At(5, lambda model: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        make_trainer(tokenizer, NUMBERED, callback=stop, **values).train()
    Path("run").rename("moved")
    measured(3.0, 2.0)
    again = make_trainer(tokenizer, NUMBERED, "new", **values)
    again.train(resume_from_checkpoint="moved")
    assert again.state.best_model_checkpoint == str(Path("moved/checkpoint-2"))


def test_a_stop_at_the_end_of_an_epoch_does_not_lose_its_evaluation(tokenizer, signals_as_ever):
    values = {"max_steps": 8, "eval_strategy": "epoch", "save_steps": 3, "metric_for_best_model": "loss"}
    whole = make_trainer(tokenizer, NUMBERED, "whole", **values)
    whole.train()
    stop = At(AN_EPOCH, lambda model: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as stopped:
        make_trainer(tokenizer, NUMBERED, callback=stop, **values).train()
    assert stopped.value.checkpoint.name == f"checkpoint-{AN_EPOCH}"
    again = make_trainer(tokenizer, NUMBERED, **values)
    again.train(resume_from_checkpoint=True)
    assert (weights(again) == weights(whole)).all()
    found, expected = (
        [(entry["step"], entry["eval_loss"]) for entry in each.state.log_history if "eval_loss" in entry]
        for each in (again, whole)
    )
    assert found == expected
    assert len(found) == 2


def test_a_best_model_that_was_not_saved_is_said(tokenizer, measured, caplog):
    measured(1.0, 3.0, 2.0)
    values = OFTEN | {"save_steps": 4, "metric_for_best_model": "loss", "load_best_model_at_end": True}
    make_trainer(tokenizer, NUMBERED, **values).train()
    assert "the best evaluation was after step 2, which was not saved; the model is the last one" in caplog.text


def test_a_best_model_of_evaluations_that_are_not_numbers_is_said(tokenizer, caplog):
    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=lambda found: {"f1": math.nan}, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="f1", greater_is_better=True,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.best_model_checkpoint is None
    assert "load_best_model_at_end: f1 was not a number in any evaluation, so the model is the last one" in caplog.text
