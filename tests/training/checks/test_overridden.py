"""What a subclass overrides, or a caller passes, is used, refused by name, or said."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import make_bert
from small_run import NUMBERED, make_trainer
from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding, PrinterCallback, TrainerCallback

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer

SHORT = {"max_steps": 2, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 1}


def subclass(**methods):
    return type("Mine", (MLMTrainer,), methods)


@pytest.mark.parametrize("name", ["prediction_step", "_get_train_sampler", "_get_dataloader"])
def test_a_method_that_is_never_called_is_refused_by_name(tokenizer, name):
    parent = subclass(**{name: lambda self, *args, **kwargs: None})
    for kind in (parent, type("Child", (parent,), {})):
        with pytest.raises(ValueError, match=f"^{name}: {kind.__name__} overrides it, and it would never be called"):
            make_trainer(tokenizer, NUMBERED, kind=kind, **SHORT)


def passes_on(name, called):
    def method(self, *args, **kwargs):
        called.append(name)
        return getattr(MLMTrainer, name)(self, *args, **kwargs)

    return method


@pytest.mark.parametrize(
    "name",
    [
        *("get_train_dataloader", "get_eval_dataloader", "_get_eval_sampler", "evaluate", "evaluation_loop", "log"),
        *("compute_loss", "training_step", "_prepare_inputs", "compute_loss_context_manager", "num_examples"),
    ],
)
def test_a_method_that_is_overridden_is_used(tokenizer, name):
    called = []
    trainer = make_trainer(tokenizer, NUMBERED, kind=subclass(**{name: passes_on(name, called)}), **SHORT)
    trainer.train()
    assert called
    if name in ("_prepare_inputs", "compute_loss_context_manager"):
        called.clear()
        trainer.evaluate()
        assert called


def test_the_batches_of_an_overridden_eval_loader_are_evaluated(tokenizer):
    """Its rows, with its own labels: padded, without our collator."""
    rows = [{"input_ids": [101, 103, 205, 102], "labels": [-100, 204, -100, -100]}] * 3

    def get_eval_dataloader(self, eval_dataset=None):
        return torch.utils.data.DataLoader(
            rows, batch_size=2, collate_fn=lambda some: {k: torch.tensor([row[k] for row in some]) for k in some[0]}
        )

    trainer = make_trainer(tokenizer, NUMBERED, kind=subclass(get_eval_dataloader=get_eval_dataloader), **SHORT)
    found = trainer.evaluate()
    assert found["eval_masked_tokens"] == 3
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([rows[0]["input_ids"]])).logits[0, 1]
    assert found["eval_loss"] == pytest.approx(-logits.log_softmax(-1)[204].item(), rel=1e-4)


def test_batches_without_labels_are_refused(tokenizer):
    def get_eval_dataloader(self, eval_dataset=None):
        return [{"input_ids": torch.tensor([[101, 102]])}]

    trainer = make_trainer(tokenizer, NUMBERED, kind=subclass(get_eval_dataloader=get_eval_dataloader), **SHORT)
    with pytest.raises(ValueError, match="get_eval_dataloader: received a batch with input_ids"):
        trainer.evaluate()


def test_an_overridden_loss_gets_what_transformers_would_give_it(tokenizer, caplog):
    seen = []

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        seen.append({name: tuple(value.shape) for name, value in inputs.items()})
        loss, outputs = MLMTrainer.compute_loss(self, model, inputs, return_outputs=True, **kwargs)
        seen[-1]["logits"] = tuple(outputs.logits.shape)
        assert (inputs["attention_mask"].sum(-1) > 0).all()
        return (loss, outputs) if return_outputs else loss

    trainer = make_trainer(tokenizer, NUMBERED, kind=subclass(compute_loss=compute_loss), **SHORT)
    assert "padding_free is off: Mine.compute_loss is your own, and may expect a row for each example" in caplog.text
    assert "sparse_prediction is off: Mine.compute_loss is your own" in caplog.text
    assert "Evaluations measure the cross-entropy of masked tokens" in caplog.text
    trainer.train()
    for shapes in seen:
        assert set(shapes) == {"input_ids", "attention_mask", "labels", "logits"}
        assert shapes["input_ids"][0] == 2
        assert shapes["logits"] == (*shapes["input_ids"], 1000)


def test_a_micro_batch_is_not_split_for_a_loss_that_may_be_a_mean(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, kind=subclass(compute_loss=passes_on("compute_loss", [])), **SHORT)
    assert "may not add up" in trainer.why_not_splittable(torch.tensor(3))
    assert make_trainer(tokenizer, NUMBERED, **SHORT).why_not_splittable(torch.tensor(3)) is None


def test_what_trains_but_does_not_evaluate_is_said(tokenizer, tiny_bert, caplog):
    def trainer(**more):
        caplog.clear()
        MLMTrainer(
            tiny_bert, MLMConfig(use_cpu=True), train_dataset=NUMBERED, eval_dataset=NUMBERED,
            processing_class=tokenizer, **more,
        )  # fmt: skip
        return caplog.text

    with caplog.at_level(logging.WARNING):
        said = trainer(data_collator=DataCollatorForLanguageModeling(tokenizer))
        assert "your data_collator (DataCollatorForLanguageModeling) is for training only" in said
        assert "compute_loss_func is for training only" in trainer(compute_loss_func=lambda *args, **kwargs: None)
        assert "for training only" not in trainer(data_collator=DataCollatorForMaskedLM(tokenizer))
        assert "for training only" not in trainer()


class Events(TrainerCallback):
    def __init__(self):
        self.predicted, self.logs, self.loaders = [], [], []

    def on_prediction_step(self, args, state, control, eval_dataloader=None, model=None, **kwargs):
        self.predicted.append((state.global_step, model.training))
        self.loaders.append(eval_dataloader)

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, dict(logs)))


def test_callbacks_get_each_prediction_step_and_each_log(tokenizer):
    events = Events()
    trainer = make_trainer(tokenizer, NUMBERED, callback=events, per_device_eval_batch_size=3, **SHORT)
    trainer.train()
    assert events.predicted == [(step, False) for step in (1, 2) for _ in range(3)]
    assert len(events.loaders[0]) == 3
    for step in (1, 2):
        training, evaluation = (logs for at, logs in events.logs[:4] if at == step)
        assert {"loss", "grad_norm", "learning_rate", "epoch"} == set(training)
        assert {"eval_loss", "eval_accuracy", "eval_perplexity", "eval_runtime", "epoch"} <= set(evaluation)
    history = trainer.state.log_history
    assert [entry["step"] for entry in history] == [1, 1, 2, 2, 2]
    assert all(logs.items() <= entry.items() for (_, logs), entry in zip(events.logs, history, strict=True))


def test_a_printer_that_the_caller_adds_prints(tokenizer, capsys):
    for quiet in (True, False):
        make_trainer(tokenizer, NUMBERED, callback=PrinterCallback(), disable_tqdm=quiet, **SHORT).train()
        assert "{'loss': " in capsys.readouterr().out
    make_trainer(tokenizer, NUMBERED, disable_tqdm=True, **SHORT).train()
    assert "{" not in capsys.readouterr().out


def test_evaluation_leaves_the_model_in_evaluation_mode_and_training_does_not(tokenizer):
    modes = []

    class Modes(TrainerCallback):
        def on_substep_end(self, args, state, control, model=None, **kwargs):
            modes.append(model.training)

        on_pre_optimizer_step = on_substep_end

    trainer = make_trainer(
        tokenizer, NUMBERED, callback=Modes(), gradient_accumulation_steps=2, **SHORT | {"max_steps": 4}
    )
    trainer.model.train()
    trainer.evaluate()
    assert not any(module.training for module in trainer.model.modules())
    trainer.train()
    assert modes == [True] * 8
    assert not trainer.model.training  # the last thing was an evaluation
    trainer.model.train()
    trainer.predict(NUMBERED)
    assert not trainer.model.training


def test_an_optimizer_that_evaluates_with_other_weights_is_told(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, **SHORT)
    told = []

    class Averaging(torch.optim.SGD):
        def eval(self):
            told.append("eval")

        def train(self):
            told.append("train")

    trainer.optimizer = Averaging(trainer.model.parameters(), lr=0.1)
    trainer.train()
    assert told == ["train", "eval"] * 2


def test_batches_to_train_on_without_labels_are_refused(tokenizer):
    trainer = MLMTrainer(
        make_bert(tokenizer), MLMConfig(use_cpu=True, max_steps=1), train_dataset=NUMBERED,
        processing_class=tokenizer, data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    with pytest.raises(ValueError, match="data_collator: DataCollatorWithPadding returned a batch with input_ids"):
        trainer.train()


def test_an_overridden_loss_is_added_up_over_micro_batches_which_is_said(tokenizer, caplog):
    kind = subclass(compute_loss=passes_on("compute_loss", []))
    with caplog.at_level(logging.WARNING):
        make_trainer(tokenizer, NUMBERED, kind=kind, **SHORT)
        assert "adds up" not in caplog.text
        make_trainer(tokenizer, NUMBERED, gradient_accumulation_steps=2, **SHORT)
        assert "adds up" not in caplog.text
        make_trainer(tokenizer, NUMBERED, kind=kind, gradient_accumulation_steps=2, **SHORT)
    assert "a step adds up what Mine.compute_loss returns for each micro-batch" in caplog.text
