"""`compute_metrics` gets predictions and labels at masked positions, the same in any number of batches."""

from __future__ import annotations

import json

import numpy as np
import predictions_of_two
import pytest
import torch
from launched import run_together
from small_run import NUMBERED, make_trainer

EVALUATES = {"save_strategy": "no"}


def of_run_mlm(found):
    """What run_mlm.py computes from predictions and labels."""
    predictions, labels = found
    labels, predictions = labels.reshape(-1), predictions.reshape(-1)
    mask = labels != -100
    return {"right": np.float64((predictions[mask] == labels[mask]).mean()), "tokens": mask.sum()}


@pytest.mark.parametrize("preprocess", [None, lambda logits, labels: logits.argmax(dim=-1)])
@pytest.mark.parametrize("padding_free", [True, False])
def test_it_gets_the_likeliest_tokens_and_the_true_ones(tokenizer, preprocess, padding_free):
    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=of_run_mlm, preprocess=preprocess, padding_free=padding_free, **EVALUATES
    )
    found = trainer.evaluate()
    assert found["eval_right"] == pytest.approx(found["eval_accuracy"])
    assert found["eval_tokens"] == found["eval_masked_tokens"]
    assert type(found["eval_right"]) is float
    json.dumps(trainer.state.log_history)


def test_it_gets_them_in_the_order_of_the_text_whatever_the_batch(tokenizer):
    seen = []
    for changes in ({}, {"per_device_eval_batch_size": 3}, {"padding_free": False}, {"sparse_prediction": False}):
        make_trainer(
            tokenizer, NUMBERED, compute_metrics=lambda found: seen.append(found) or {}, **changes, **EVALUATES
        ).evaluate()
    results = make_trainer(tokenizer, NUMBERED, **EVALUATES).token_results(NUMBERED)
    for found in seen:
        assert found.label_ids.tolist() == results.token.tolist()
        assert found.predictions.tolist() == seen[0].predictions.tolist()
        assert ((found.predictions == found.label_ids) == (results.rank == 0)).all()


def test_it_gets_what_the_caller_makes_of_the_logits(tokenizer):
    shapes, seen = [], []

    def preprocess(logits, labels):
        shapes.append((logits.shape, labels.shape))
        return logits.softmax(dim=2).gather(-1, labels[..., None])[..., 0], logits.topk(5, dim=-1).indices

    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=lambda found: seen.append(found) or {}, preprocess=preprocess, **EVALUATES
    )
    metrics = trainer.evaluate()
    assert all(logits == (1, labels[1], 1000) and labels[0] == 1 for logits, labels in shapes)
    (probabilities, five), labels = seen[0].predictions, seen[0].label_ids
    assert five.shape == (*labels.shape, 5)
    assert -np.log(probabilities).mean() == pytest.approx(metrics["eval_loss"], rel=1e-4)


def test_argmax_of_ids_is_an_error_and_not_a_number(tokenizer):
    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=lambda found: {"x": np.argmax(found.predictions, axis=-1)}, **EVALUATES
    )
    with pytest.raises(ValueError, match="the ids of the likeliest tokens already"):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("compute", "preprocess", "says"),
    [
        (lambda found: 0.5, None, "compute_metrics: returned float. Accepted: a dict"),
        (lambda found: {}, lambda logits, labels: logits.mean(), r"returned shape \(\) for logits at \d+ masked"),
        (lambda found: {}, lambda logits, labels: None, "preprocess_logits_for_metrics: returned NoneType"),
        (lambda found: {}, lambda logits, labels: logits[0].argmax(-1), r"returned shape \(\d+,\) for"),
    ],
)
def test_what_it_cannot_use_is_said(tokenizer, compute, preprocess, says):
    trainer = make_trainer(tokenizer, NUMBERED, compute_metrics=compute, preprocess=preprocess, **EVALUATES)
    with pytest.raises(ValueError, match=says):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"include_for_metrics": ["inputs"]}, "include_for_metrics: received inputs. Accepted: loss"),
        ({"prediction_loss_only": True}, "prediction_loss_only: received True with compute_metrics"),
        ({"eval_do_concat_batches": False}, "eval_do_concat_batches: received False with compute_metrics"),
        ({"batch_eval_metrics": True}, "compute_metrics: received a function without the argument compute_result"),
    ],
)
def test_options_that_it_cannot_be_given_are_refused_by_name(tokenizer, changes, says):
    with pytest.raises(ValueError, match=says):
        make_trainer(tokenizer, NUMBERED, compute_metrics=of_run_mlm, **changes, **EVALUATES)


def test_losses_are_included_if_requested(tokenizer):
    def compute(found):
        return {"mean": found.losses.mean(), "count": len(found.losses)}

    trainer = make_trainer(tokenizer, NUMBERED, compute_metrics=compute, include_for_metrics=["loss"], **EVALUATES)
    found = trainer.evaluate()
    assert found["eval_mean"] == pytest.approx(found["eval_loss"], rel=1e-5)
    assert found["eval_count"] == found["eval_masked_tokens"]


def test_it_gets_batch_after_batch_if_requested(tokenizer):
    calls = []

    def compute(found, compute_result):
        calls.append((len(found.label_ids), compute_result))
        assert isinstance(found.predictions, torch.Tensor)
        return {"tokens": sum(number for number, _ in calls)} if compute_result else {}

    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=compute, batch_eval_metrics=True, per_device_eval_batch_size=3, **EVALUATES
    )
    found = trainer.evaluate()
    assert [last for _, last in calls] == [False, False, True]
    assert found["eval_tokens"] == found["eval_masked_tokens"]


def test_its_measures_count_beside_ours(tokenizer):
    trainer = make_trainer(
        tokenizer, NUMBERED, compute_metrics=lambda found: {"loss": -1.0, "accuracy": 2.0, "eval_mine": 3}, **EVALUATES
    )
    found = trainer.evaluate()
    assert found["eval_loss"] > 0  # the measured one, as with transformers
    assert (found["eval_accuracy"], found["eval_mine"]) == (2.0, 3)
    assert "eval_eval_mine" not in found


def test_evaluating_with_it_does_not_change_training(tokenizer):
    trained = []
    for compute in (None, of_run_mlm):
        trainer = make_trainer(
            tokenizer, NUMBERED, compute_metrics=compute, eval_strategy="steps", eval_steps=1, max_steps=3, **EVALUATES
        )
        trainer.train()
        trained.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert trained[0] == trained[1]


def test_predict_returns_what_is_predicted_at_masked_positions(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, eval_rows=None, **EVALUATES)
    found = trainer.predict(NUMBERED)
    evaluated = trainer.evaluate(NUMBERED)
    assert found.metrics["test_loss"] == evaluated["eval_loss"]
    assert found.predictions.shape == found.label_ids.shape == (evaluated["eval_masked_tokens"],)
    assert (found.predictions == found.label_ids).mean() == pytest.approx(found.metrics["test_accuracy"])


@pytest.mark.slow
def test_two_processes_get_what_one_gets(tmp_path):
    run_together(2, predictions_of_two.__file__, tmp_path)
    one = predictions_of_two.evaluate(tmp_path)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"predicted-{rank}.json").read_text("utf-8")) == one
