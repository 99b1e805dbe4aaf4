"""What a caller sets on a trainer that exists already is used in the next run, or refused by name."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import make_bert
from datasets import Dataset, IterableDataset
from small_run import NUMBERED, make_trainer, weights

TEXT = Dataset.from_dict({"text": ["to be or not to be"] * 6})
SHORT = {"max_steps": 2, "save_strategy": "no"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mlm_probability": 0.9}, r"mlm_probability: received 0\.9 in trainer\.args.*made with 0\.4.*new MLMTrainer"),
        ({"padding_free": False}, "padding_free: received False in trainer.args"),
        ({"evaluation_seed": 7}, "evaluation_seed: received 7 in trainer.args"),
        ({"early_stopping_patience": 3, "eval_strategy": "steps"}, "early_stopping_patience: received 3 in trainer"),
        ({"bf16_full_eval": True}, "bf16_full_eval: received True. Accepted: False"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: received 0.1"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end: received True with eval_strategy 'no'"),
    ],
)
@pytest.mark.parametrize("run", ["train", "evaluate"])
def test_a_value_that_would_change_nothing_is_refused(tokenizer, values, message, run):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    for name, value in values.items():
        setattr(trainer.args, name, value)
    with pytest.raises(ValueError, match=message):
        getattr(trainer, run)()


def test_values_that_each_run_reads_can_be_set(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    trainer.args.max_steps, trainer.args.learning_rate, trainer.args.per_device_eval_batch_size = 3, 1e-2, 1
    other = make_trainer(tokenizer, NUMBERED, **SHORT | {"max_steps": 3, "learning_rate": 1e-2})
    assert trainer.train().global_step == other.train().global_step == 3
    assert torch.equal(weights(trainer), weights(other))
    assert trainer.evaluate()["eval_masked_tokens"] == other.evaluate()["eval_masked_tokens"]


@pytest.mark.parametrize("run", ["train", "evaluate"])
def test_another_model_is_refused(tokenizer, run):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    trainer.model = make_bert(tokenizer)
    with pytest.raises(ValueError, match=r"model: received another BertForMaskedLM in trainer\.model"):
        getattr(trainer, run)()


@pytest.mark.parametrize("rows", [TEXT, [row["input_ids"] for row in NUMBERED[:5]], NUMBERED[2:]], ids=str)
def test_other_rows_are_trained_on(tokenizer, rows):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    trainer.train_dataset = rows
    new = make_trainer(tokenizer, rows, **SHORT)
    assert [each["labels"].tolist() for each in trainer.get_train_dataloader()] == [
        each["labels"].tolist() for each in new.get_train_dataloader()
    ]
    assert trainer.train().training_loss == new.train().training_loss
    assert torch.equal(weights(trainer), weights(new))


def test_other_rows_are_trained_on_after_the_first_run(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    trainer.train()
    trainer.train_dataset = TEXT
    assert trainer.train().global_step == 2


def test_a_stream_in_place_of_rows_is_refused(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    trainer.train_dataset = IterableDataset.from_generator(lambda: iter(NUMBERED))
    with pytest.raises(ValueError, match=r"train_dataset: received IterableDataset in trainer.train_dataset.*new MLM"):
        trainer.train()


@pytest.mark.parametrize("workers", [0, 1])
def test_each_evaluation_is_of_its_own_rows(tokenizer, workers):
    """With persistent workers, transformers would evaluate the first rows again."""
    trainer = make_trainer(
        tokenizer, NUMBERED, dataloader_num_workers=workers, dataloader_persistent_workers=bool(workers), **SHORT
    )
    other = [row | {"input_ids": row["input_ids"][:4]} for row in NUMBERED[:3]]
    expected = [make_trainer(tokenizer, NUMBERED, eval_rows=each, **SHORT).evaluate() for each in (NUMBERED, other)]
    losses = [each["eval_loss"] for each in expected]
    assert [trainer.evaluate(each)["eval_loss"] for each in (None, other)] == losses
    assert trainer.predict(other).metrics["test_loss"] == losses[1]
    trainer.eval_dataset = {"a": other, "b": TEXT}
    assert trainer.evaluate()["eval_a_loss"] == losses[1]


def test_other_sets_are_evaluated_during_training(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, eval_strategy="steps", eval_steps=1, **SHORT)
    trainer.eval_dataset = {"a": NUMBERED, "b": TEXT}
    trainer.train()
    assert {"eval_a_loss", "eval_b_loss"} <= {name for entry in trainer.state.log_history for name in entry}


def test_rows_with_labels_are_said_once(tokenizer, caplog):
    rows = [{"input_ids": [101, 103, 102], "labels": [-100, 200, -100]}] * 4
    with caplog.at_level(logging.WARNING):
        make_trainer(tokenizer, rows, eval_strategy="steps", eval_steps=1, **SHORT).train()
    assert caplog.text.count("eval_dataset brings labels") == 1
