from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import two_evaluations
from conftest import make_bert
from datasets import Dataset
from launched import run_together
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights, loss_bound
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, TrainingArguments

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.data.rows import NumberedRows


def config(**changes):
    values = {"max_steps": 3, "per_device_train_batch_size": 4, "save_strategy": "no", "logging_steps": 1, "seed": 1}
    return MLMConfig(**(values | changes))


def test_a_name_and_a_data_set_are_enough(checkpoint, corpus):
    trainer = MLMTrainer(checkpoint, args=config(), train_dataset=corpus["train"], eval_dataset=corpus["validation"])
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_masked_tokens"] == before["eval_masked_tokens"] > 500
    assert after["eval_loss"] < before["eval_loss"]
    assert after["eval_perplexity"] == pytest.approx(np.exp(after["eval_loss"]))


def test_mini_random_trains_its_tokenizer_on_the_training_text(corpus):
    rows = corpus["validation"].select(range(8))
    trainer = MLMTrainer("mini-random", args=config(max_steps=1), train_dataset=rows)
    assert trainer.model.config.vocab_size == len(trainer.processing_class) > 104
    assert trainer.train().global_step == 1


def test_the_tokens_results_add_up_to_the_metrics(checkpoint, corpus):
    trainer = MLMTrainer(checkpoint, args=config(), eval_dataset=corpus["validation"])
    results = trainer.token_results(trainer.eval_dataset)
    found = trainer.evaluate()
    assert len(results) == found["eval_masked_tokens"]
    assert results.nats.mean() == pytest.approx(found["eval_loss"], rel=loss_bound(trainer.model))
    assert (results.rank == 0).mean() == found["eval_accuracy"]


def test_text_is_packed_if_requested(checkpoint, corpus):
    args = config(max_steps=2, packing=True, max_length=32)
    trainer = MLMTrainer(checkpoint, args=args, train_dataset=corpus["train"], eval_dataset=corpus["validation"])
    assert len(trainer.train_dataset) > 2 * len(corpus["train"])
    assert sum(len(row["input_ids"]) < 32 for row in trainer.train_dataset) <= 1
    trainer.train()
    assert trainer.evaluate()["eval_masked_tokens"] > 0


def test_rows_without_example_id_are_numbered(tiny_bert, tokenizer, rows):
    trainer = MLMTrainer(tiny_bert, args=config(), train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    assert isinstance(trainer.train_dataset, NumberedRows)
    trainer.train()
    assert trainer.evaluate()["eval_masked_tokens"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda text: {"text": text}, str], ids=["dicts", "strings"])
def test_a_list_of_texts_is_tokenized(corpus, checkpoint, wrap):
    texts = [wrap(text) for text in corpus["validation"]["text"]]
    learned = MLMTrainer("mini-random", args=config(max_steps=1), train_dataset=texts)
    assert len(learned.processing_class) > 104
    ours = MLMTrainer(checkpoint, args=config(), train_dataset=texts, eval_dataset=texts)
    assert ours.train().global_step == 3
    assert ours.evaluate(texts)["eval_loss"] == ours.evaluate()["eval_loss"]


def test_rows_with_example_id_keep_it(tiny_bert, tokenizer, rows):
    rows = [row | {"example_id": 100 + i} for i, row in enumerate(rows)]
    trainer = MLMTrainer(tiny_bert, args=config(), train_dataset=rows, processing_class=tokenizer)
    assert trainer.train_dataset is rows
    data_set = Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows])
    trainer = MLMTrainer(tiny_bert, args=config(), train_dataset=data_set, processing_class=tokenizer)
    assert trainer.train_dataset["example_id"] == list(range(8))


def test_the_loss_does_not_depend_on_accumulation(tokenizer, rows):
    """With four accumulation steps, stock Trainer logs four times the loss and clips four times the gradient."""
    rows = [row | {"example_id": i} for i, row in enumerate(rows)]
    logged, weights = [], []
    for batch, steps in ((8, 1), (2, 4), (1, 8)):
        model = make_bert(tokenizer)
        args = config(
            per_device_train_batch_size=batch, gradient_accumulation_steps=steps, max_steps=4, mlm_probability=0.4,
            **PROPORTIONAL_STEPS,
        )  # fmt: skip
        trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        logged.append([(e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e])
        weights.append(flat_weights(model))
    for other in (1, 2):
        assert_same_run((logged[other], weights[other]), (logged[0], weights[0]), make_bert(tokenizer), steps=4)


def test_evaluation_masks_do_not_depend_on_batch_size_or_training_masks(tokenizer, rows):
    found = []
    for changes in (
        {},
        {"per_device_eval_batch_size": 3},
        {"seed": 9, "static_masks": True, "loss_on": "all", "padding": "max_length"},
    ):
        trainer = MLMTrainer(
            make_bert(tokenizer), args=config(**changes), eval_dataset=rows, processing_class=tokenizer
        )
        metrics = trainer.evaluate()
        found.append([metrics[f"eval_{name}"] for name in ("loss", "accuracy", "masked_tokens")])
    bound = loss_bound(make_bert(tokenizer))
    assert found[1] == pytest.approx(found[0], rel=bound)
    assert found[2] == pytest.approx(found[0], rel=bound)
    other = MLMTrainer(
        make_bert(tokenizer), args=config(evaluation_seed=1), eval_dataset=rows, processing_class=tokenizer
    )
    assert other.evaluate()["eval_loss"] != pytest.approx(found[0][0], rel=bound)


@pytest.mark.slow
def test_two_processes_count_each_example_once(tmp_path):
    run_together(2, two_evaluations.__file__, tmp_path)
    first, second = (json.loads((tmp_path / f"metrics-{rank}.json").read_text("utf-8")) for rank in (0, 1))
    assert first == second == pytest.approx(two_evaluations.evaluate(tmp_path), rel=1e-5)


def test_evaluation_during_training_and_of_several_sets(tiny_bert, tokenizer, rows):
    trainer = MLMTrainer(
        tiny_bert,
        args=config(eval_strategy="steps", eval_steps=1),
        train_dataset=rows,
        eval_dataset={"first": rows[:4], "last": rows[4:]},
        processing_class=tokenizer,
    )
    trainer.train()
    steps = [entry["step"] for entry in trainer.state.log_history if "eval_first_loss" in entry]
    assert steps == [1, 2, 3]
    assert {"eval_first_loss", "eval_last_accuracy"} <= set(trainer.evaluate())


def test_text_given_to_evaluate_is_tokenized(checkpoint, corpus):
    trainer = MLMTrainer(checkpoint, args=config(), eval_dataset=corpus["train"])
    metrics = trainer.evaluate(corpus["validation"])
    again = MLMTrainer(checkpoint, args=config(), eval_dataset=corpus["validation"]).evaluate()
    assert metrics["eval_loss"] == again["eval_loss"]


def test_the_callers_collator_is_used_and_evaluation_stays_frozen(tiny_bert, tokenizer, rows):
    collator = DataCollatorForLanguageModeling(tokenizer)
    trainer = MLMTrainer(
        tiny_bert, args=config(), data_collator=collator, train_dataset=rows, eval_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    assert trainer.data_collator is collator
    first = trainer.evaluate()["eval_loss"]
    assert trainer.data_collator is collator
    assert trainer.evaluate()["eval_loss"] == first


def test_one_process_uses_one_gpu_and_logs_it(tokenizer, rows, caplog):
    """DataParallel would multiply the loss by the number of GPUs; this machine has none, so the test sets the count."""
    logged = []
    for gpus in (1, 2):
        args = config(static_masks=True, max_steps=1)
        args._n_gpu = gpus
        trainer = MLMTrainer(make_bert(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        logged.append(trainer.state.log_history[0]["loss"])
    assert logged[0] == logged[1]
    assert "Training on one of 2 GPUs" in caplog.text


def test_evaluating_does_not_change_the_trained_weights(tokenizer, rows):
    weights = []
    for strategy in ("no", "steps"):
        model = make_bert(tokenizer, hidden_dropout_prob=0.1)
        args = config(max_steps=4, eval_strategy=strategy, eval_steps=1)
        MLMTrainer(model, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer).train()
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_evaluating_does_not_change_the_callers_generator(tiny_bert, tokenizer, rows):
    trainer = MLMTrainer(tiny_bert, args=config(), eval_dataset=rows, processing_class=tokenizer)
    before = torch.get_rng_state()
    trainer.evaluate()
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_rows_for_a_step_are_refused_with_drop_last(tiny_bert, tokenizer, rows):
    args = config(dataloader_drop_last=True, gradient_accumulation_steps=3)
    trainer = MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(ValueError, match="dataloader_drop_last: received True, and 8 rows do not fill one step of 12"):
        trainer.train()


def test_from_scratch_is_not_ignored(checkpoint, corpus):
    pretrained = make_bert(MLMTrainer(checkpoint, args=config(), train_dataset=corpus["validation"]).processing_class)
    trainer = MLMTrainer(checkpoint, args=config(from_scratch=True, vocab_size=300), train_dataset=corpus["validation"])
    assert len(trainer.processing_class) == trainer.model.config.vocab_size == 300
    weight = trainer.model.bert.encoder.layer[0].output.dense.weight
    assert not torch.equal(weight, pretrained.bert.encoder.layer[0].output.dense.weight)


def test_a_collator_set_later_stays(tiny_bert, tokenizer, rows):
    trainer = MLMTrainer(tiny_bert, args=config(), train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.data_collator = DataCollatorForLanguageModeling(tokenizer)
    trainer.evaluate()
    assert isinstance(trainer.data_collator, DataCollatorForLanguageModeling)


def test_weight_decay_applies_to_all_parameters_if_requested(tiny_bert, tokenizer, rows):
    names = {name for name, _ in tiny_bert.named_parameters()}
    for asked, expected in ((True, names), (False, {n for n in names if "bias" not in n and "LayerNorm" not in n})):
        trainer = MLMTrainer(
            tiny_bert, args=config(decay_bias_and_norm=asked), train_dataset=rows, processing_class=tokenizer
        )
        assert set(trainer.get_decay_parameter_names(tiny_bert)) & names == expected


def test_plain_lines_without_a_terminal(tiny_bert, tokenizer, rows, capsys):
    args = config(max_steps=4, mlm_probability=0.5, max_length=128)
    MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=tokenizer).train()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  loss")[0] for line in lines] == [
        "epoch 1/2  step 1/4", "epoch 1/2  step 2/4", "epoch 2/2  step 3/4", "epoch 2/2  step 4/4",
    ]  # fmt: skip
    assert all(float(line.split("loss ")[1].split()[0]) > 0 for line in lines)


def test_a_bar_with_epoch_and_loss_on_a_terminal(tiny_bert, tokenizer, rows, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    args = config(max_steps=4, max_length=128)
    MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=tokenizer).train()
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.split("\r")[-1]
    assert last.startswith("Epoch 2/2: 100%")
    assert "4/4" in last
    assert "loss=" in last


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"args": TrainingArguments(use_cpu=True)}, "args: received TrainingArguments"),
        ({"processing_class": None}, "processing_class: received None"),
        ({"compute_metrics": "f1"}, "compute_metrics: received str"),
        ({"train_dataset": []}, "train_dataset: received no rows"),
        ({"train_dataset": iter([1])}, "train_dataset: received list_iterator"),
        ({"train_dataset": Dataset.from_dict({"body": ["x"]})}, "received the columns body"),
        ({"train_dataset": [{"body": "x"}]}, "received the columns body"),
        ({"args": MLMConfig(max_length=129)}, "max_length: received 129. Accepted: 3 to 128"),
    ],
)
def test_unsuitable_arguments_are_refused(tiny_bert, tokenizer, rows, arguments, says):
    values = {"args": config(), "train_dataset": rows, "processing_class": tokenizer} | arguments
    with pytest.raises(ValueError, match=says):
        MLMTrainer(tiny_bert, **values)


def test_mini_random_without_text_is_refused(rows):
    with pytest.raises(ValueError, match="'mini-random' has no tokenizer"):
        MLMTrainer("mini-random", args=config(), train_dataset=rows)


def test_a_batch_without_masked_tokens_has_no_loss_and_is_not_nan(tiny_bert, tokenizer):
    rows = [{"input_ids": [101, 102]}] * 4
    before = [p.clone() for p in tiny_bert.parameters()]
    trainer = MLMTrainer(
        tiny_bert, args=config(max_steps=2, logging_nan_inf_filter=False), train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] == [0.0, 0.0]
    assert all(torch.equal(a, b) for a, b in zip(before, tiny_bert.parameters(), strict=True))


def test_a_checkpoint_is_loaded_by_transformers(checkpoint, corpus, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    args = config(output_dir=str(tmp_path / "out"), save_strategy="steps", save_steps=2)
    MLMTrainer(checkpoint, args=args, train_dataset=corpus["validation"]).train()
    AutoModelForMaskedLM.from_pretrained(tmp_path / "out" / "checkpoint-2")
    AutoTokenizer.from_pretrained(tmp_path / "out" / "checkpoint-2")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_in_bf16_agrees_with_the_cpu(tokenizer, rows):
    rows = [row | {"example_id": i} for i, row in enumerate(rows)]
    found = {}
    for name, changes in {"cpu": {"use_cpu": True}, "gpu": {"bf16": True}}.items():
        args = config(static_masks=True, learning_rate=1e-3, max_steps=20, **changes)
        trainer = MLMTrainer(
            make_bert(tokenizer), args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
        )
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        found[name] = [before, trainer.evaluate()["eval_loss"]]
    assert found["gpu"] == pytest.approx(found["cpu"], rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_resumed_run_has_every_bit_where_that_is_asked_for(tokenizer, tmp_path, monkeypatch):
    """In bf16, at a real shape: twelve heads of 64, rows of up to 512 tokens, dropout."""
    for name in ("CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING", "FLASH_ATTENTION_DETERMINISTIC"):
        monkeypatch.setenv(name, "")  # transformers sets them for the whole process; this restores them
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 512, (64,), generator=generator).tolist()
    rows = [
        {"input_ids": torch.randint(104, 900, (length,), generator=generator).tolist(), "example_id": number}
        for number, length in enumerate(lengths)
    ]
    found = []
    try:
        for resume in (None, str(tmp_path / "checkpoint-4")):
            torch.manual_seed(0)
            model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), num_hidden_layers=2))
            args = MLMConfig(
                output_dir=str(tmp_path), max_steps=8, per_device_train_batch_size=16, bf16=True, save_steps=4,
                full_determinism=True,
            )  # fmt: skip
            trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
            trainer.train(resume_from_checkpoint=resume)
            found.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert torch.equal(*found)
