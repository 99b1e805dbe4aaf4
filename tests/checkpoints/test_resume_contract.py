from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_bert, reseal
from transformers import DataCollatorForLanguageModeling

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.checkpoints.resume_contract import find_checkpoint
from mlm_recipes.checkpoints.storage import list_checkpoints
from mlm_recipes.checkpoints.value_kinds import ALLOWED, FIXED, kind
from mlm_recipes.training.config import field_names


@pytest.fixture(scope="module")
def numbered():
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": [101, *torch.randint(104, 900, (n,), generator=generator).tolist(), 102], "example_id": i}
        for i, n in enumerate([5, 9, 3, 12, 7, 9, 4, 6])
    ]


@pytest.fixture(scope="module")
def begun(tokenizer, numbered, tmp_path_factory):
    """A run of four steps with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("begun")
    trainer = make_trainer(tokenizer, numbered, folder)
    trainer.train()
    return folder, trainer


def make_trainer(tokenizer, rows, folder, model=None, data_collator=None, **changes):
    values = {
        "output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "seed": 1,
        "save_steps": 1, "mlm_probability": 0.4, "weight_decay": 0.01,
    }  # fmt: skip
    return MLMTrainer(
        model or make_bert(tokenizer), args=MLMConfig(**(values | changes)), train_dataset=rows, eval_dataset=rows,
        processing_class=tokenizer, data_collator=data_collator,
    )  # fmt: skip


def test_every_classified_value_is_a_config_field():
    assert set(field_names()) >= FIXED
    later = {"activation_checkpointing", "activation_checkpointing_kwargs"}  # than the oldest transformers we take
    assert set(field_names()) | later >= ALLOWED
    assert not FIXED & ALLOWED


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        ("fixed", ["seed", "mlm_probability", "evaluation_seed", "static_masks", "loss_on"]),
        ("named", ["learning_rate", "max_steps", "num_train_epochs", "warmup_steps", "model", "a_new_value"]),
        ("named", ["bf16", "bf16_residual"]),
        ("allowed", ["logging_steps", "per_device_eval_batch_size", "save_total_limit", "dataloader_num_workers"]),
    ],
)
def test_kinds_of_values(expected, names):
    assert {kind(name) for name in names} == {expected}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 2}, r"seed was 1 and is now 2"),
        ({"mlm_probability": 0.3}, r"mlm_probability was 0\.4 and is now 0\.3"),
        ({"static_masks": True}, "static_masks was False and is now True"),
        (
            {"per_device_train_batch_size": 2},
            "global batch was 4 and is now 2.*--per_device_train_batch_size 2 --gradient_accumulation_steps 2",
        ),
        (
            {"gradient_accumulation_steps": 2},
            "global batch was 4 and is now 8.*--per_device_train_batch_size 4 --gradient_accumulation_steps 1",
        ),
        ({"optim": "sgd"}, "optim was 'adamw_torch_fused' and is now 'sgd'"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last was False and is now True"),
    ],
)
def test_a_value_that_changes_the_run_is_refused_with_old_and_new_value(tokenizer, numbered, begun, changes, says):
    with pytest.raises(ValueError, match=f"belongs to another run: .*{says}.*--model .*checkpoint-4"):
        make_trainer(tokenizer, numbered, begun[0], **changes).train(resume_from_checkpoint=True)


def test_a_different_text_model_or_collator_is_a_different_run(tokenizer, numbered, begun):
    changed = [*numbered[:-1], numbered[-1] | {"input_ids": [101, 200, 102]}]
    wider = make_bert(tokenizer, intermediate_size=96)
    other = DataCollatorForMaskedLM(tokenizer, mlm_probability=0.4, seed=7)
    kind_of = type("Mine", (DataCollatorForMaskedLM,), {})(tokenizer, mlm_probability=0.4, seed=1)
    renumbered = [row | {"example_id": row["example_id"] + 100} for row in numbered]
    for values, says in (
        ({"rows": numbered, "data_collator": kind_of}, r"masking\.collator was .* and is now '.*Mine'"),
        ({"rows": renumbered}, "training text was"),
        ({"rows": changed}, "training text was '8 rows, [0-9a-f]{16}' and is now '8 rows, [0-9a-f]{16}'"),
        ({"rows": numbered[:6]}, "training text was '8 rows, .*' and is now '6 rows"),
        ({"rows": numbered, "model": wider}, r"model\.intermediate_size was 64 and is now 96"),
        ({"rows": numbered, "data_collator": other}, r"masking\.seed was 1 and is now 7"),
    ):
        with pytest.raises(ValueError, match=says):
            make_trainer(tokenizer, folder=begun[0], **values).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 1e-4}, r"learning_rate was 0\.001 and is now 0\.0001.*--change_on_resume learning_rate"),
        ({"max_steps": 8}, "max_steps was 4 and is now 8.*--change_on_resume max_steps"),
        (
            {"max_steps": 8, "weight_decay": 0.1, "change_on_resume": ["max_steps"]},
            r"weight_decay was 0\.01 and is now 0\.1.*--change_on_resume max_steps weight_decay",
        ),
    ],
)
def test_a_changed_schedule_is_refused_unless_named(tokenizer, numbered, begun, changes, says):
    trainer = make_trainer(tokenizer, numbered, begun[0], **changes)
    start = [parameter.clone() for parameter in trainer.model.parameters()]
    with pytest.raises(ValueError, match=says):
        trainer.train(resume_from_checkpoint=True)
    assert all(torch.equal(a, b) for a, b in zip(start, trainer.model.parameters(), strict=True))


def test_named_values_take_effect(tokenizer, numbered, begun, tmp_path):
    """A checkpoint restores its optimizer's and schedule's values; they must not win."""
    trainer = make_trainer(
        tokenizer, numbered, tmp_path, learning_rate=1e-4, max_steps=8, weight_decay=0.5, adam_beta2=0.9,
        change_on_resume=["learning_rate", "max_steps", "weight_decay", "adam_beta2"],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=begun[0] / "checkpoint-2")
    rates = {entry["step"]: entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry}
    assert rates[2] == pytest.approx(1e-3 * 3 / 4)  # as it was, linear from 1e-3 over four steps
    assert [rates[step] for step in range(3, 9)] == pytest.approx([1e-4 * (8 - done) / 8 for done in range(2, 8)])
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.5, 0.0}
    assert {group["betas"] for group in trainer.optimizer.param_groups} == {(0.9, 0.9)}
    assert trainer.state.global_step == 8
    (resumed,) = trainer.resumed
    assert resumed["step"] == 2
    assert resumed["changed"]["learning_rate"] == [1e-3, 1e-4]
    # The next checkpoint says so too, and is of the new contract.
    again = make_trainer(
        tokenizer, numbered, tmp_path, learning_rate=1e-4, max_steps=8, weight_decay=0.5, adam_beta2=0.9
    )
    again.train(resume_from_checkpoint=tmp_path / "checkpoint-5")
    assert [entry["step"] for entry in again.resumed] == [2, 5]
    for a, b in zip(again.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(a, b)


PLATEAU = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1}


@pytest.mark.slow
def test_a_schedule_that_follows_the_measured_loss_can_only_be_made_longer(tokenizer, numbered, begun, tmp_path):
    make_trainer(tokenizer, numbered, tmp_path, **PLATEAU).train()
    names = ["learning_rate", "lr_scheduler_type", "eval_steps", "eval_strategy", "metric_for_best_model",
             "greater_is_better", "max_steps"]  # fmt: skip
    for folder, values in (
        (tmp_path, PLATEAU | {"learning_rate": 1e-4}),
        (tmp_path, {"lr_scheduler_type": "linear"}),
        (begun[0], PLATEAU),
    ):
        with pytest.raises(ValueError, match=r"change_on_resume: received .* reduce_lr_on_plateau.* own step count"):
            make_trainer(tokenizer, numbered, tmp_path, change_on_resume=names, **values).train(folder / "checkpoint-2")
    with pytest.raises(ValueError, match="eval_steps was 1 and is now 2"):  # it decides when the rate falls
        make_trainer(tokenizer, numbered, tmp_path, **(PLATEAU | {"eval_steps": 2})).train(tmp_path / "checkpoint-2")
    other = PLATEAU | {"metric_for_best_model": "accuracy"}
    with pytest.raises(ValueError, match=r"change_on_resume: received greater_is_better metric_for_best_model .*best"):
        make_trainer(tokenizer, numbered, tmp_path, change_on_resume=names, **other).train(tmp_path / "checkpoint-2")
    longer = make_trainer(tokenizer, numbered, tmp_path, change_on_resume=["max_steps"], **(PLATEAU | {"max_steps": 6}))
    assert longer.train(tmp_path / "checkpoint-2").global_step == 6


def test_changing_which_model_is_kept_must_be_named(tokenizer, numbered, begun, tmp_path):
    with pytest.raises(ValueError, match="load_best_model_at_end was False and is now True"):
        make_trainer(
            tokenizer, numbered, tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=1,
        ).train(begun[0] / "checkpoint-2")  # fmt: skip


@pytest.mark.slow
def test_a_nested_value_is_named_as_a_whole(tokenizer, numbered, tmp_path):
    values = {"lr_scheduler_type": "cosine_with_restarts", "max_steps": 4}
    make_trainer(tokenizer, numbered, tmp_path, lr_scheduler_kwargs={"num_cycles": 1}, **values).train()
    values["lr_scheduler_kwargs"] = {"num_cycles": 2}
    with pytest.raises(ValueError, match="--change_on_resume lr_scheduler_kwargs"):
        make_trainer(tokenizer, numbered, tmp_path, **values).train(tmp_path / "checkpoint-1")
    trainer = make_trainer(tokenizer, numbered, tmp_path, change_on_resume=["lr_scheduler_kwargs"], **values)
    trainer.train(tmp_path / "checkpoint-1")
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([1e-3, 5e-4, 1e-3, 5e-4])  # of two cycles, since the second step
    accelerator = {"accelerator_config": {"non_blocking": True}, "dataloader_pin_memory": False}
    make_trainer(tokenizer, numbered, tmp_path, **values, **accelerator).train(True)  # allowed as a whole, too


def test_a_value_that_only_one_version_has_is_not_compared(tokenizer, numbered, begun, tmp_path):
    shutil.copytree(begun[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    path = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(path.read_text())
    contract = state["stateful_callbacks"]["ResumeContract"]["attributes"]["contract"]
    contract["values"]["gone"] = 1
    contract["facts"]["model"]["gone"] = 1
    del contract["values"]["project"], contract["facts"]["model"]["hidden_act"]
    path.write_text(json.dumps(state))
    reseal(path.parent)
    assert make_trainer(tokenizer, numbered, tmp_path).train(True).global_step == 4


def test_a_value_set_after_the_trainer_was_created_counts(tokenizer, numbered, begun, tmp_path):
    trainer = make_trainer(tokenizer, numbered, tmp_path)
    trainer.args.learning_rate = 1e-4
    with pytest.raises(ValueError, match="learning_rate was"):
        trainer.train(begun[0] / "checkpoint-2")


def test_a_run_cannot_end_before_the_checkpoint(tokenizer, numbered, begun, tmp_path):
    trainer = make_trainer(tokenizer, numbered, tmp_path, max_steps=2, change_on_resume=["max_steps"])
    with pytest.raises(ValueError, match="was saved after 3 steps, and the run has only 2"):
        trainer.train(begun[0] / "checkpoint-3")


@pytest.mark.parametrize(
    "given", ["learning_rate,max_steps", ["learning_rate max_steps"], ["learning_rate", "max_steps"]]
)
def test_names_may_be_separated_by_commas_or_spaces(given):
    assert MLMConfig(change_on_resume=given).change_on_resume == ["learning_rate", "max_steps"]


def test_the_config_can_set_resume_from_checkpoint(tokenizer, numbered, begun, tmp_path):
    place = str(begun[0] / "checkpoint-2")
    for asked, given in ((place, None), ("true", place), (None, "true")):
        folder = begun[0] if given == "true" else tmp_path
        trainer = make_trainer(tokenizer, numbered, folder, resume_from_checkpoint=asked, save_strategy="no")
        trainer.train(given)
        assert [entry["step"] for entry in trainer.resumed] == [4 if given == "true" else 2]
    trainer = make_trainer(tokenizer, numbered, tmp_path, resume_from_checkpoint=place, save_strategy="no")
    trainer.train(False)
    assert trainer.resumed == []


def test_a_harmless_change_is_allowed_takes_effect_and_is_reported(tokenizer, numbered, begun, tmp_path, caplog):
    with caplog.at_level("INFO", logger="mlm_recipes"):
        trainer = make_trainer(
            tokenizer, numbered, tmp_path, logging_steps=2, per_device_eval_batch_size=3, save_strategy="no"
        )
        trainer.train(resume_from_checkpoint=begun[0] / "checkpoint-1")
    steps = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert steps == [1, 2, 4]
    assert "Resuming with changed values: logging_steps was 1 and is now 2" in caplog.text
    assert "per_device_eval_batch_size was 16 and is now 3" in caplog.text
    assert "missing keys" not in caplog.text  # the tied ones are not
    for a, b in zip(trainer.model.parameters(), begun[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_run_takes_no_further_step(tokenizer, numbered, begun, tmp_path):
    """Stock Trainer takes one more step: here after four steps of two per epoch, and within an epoch of eight."""
    trainer = make_trainer(tokenizer, numbered, begun[0])
    assert trainer.train(resume_from_checkpoint=True).global_step == 4
    for a, b in zip(trainer.model.parameters(), begun[1].model.parameters(), strict=True):
        assert torch.equal(a, b)
    values = {"per_device_train_batch_size": 1, "max_steps": 3}
    whole = make_trainer(tokenizer, numbered, tmp_path, **values)
    whole.train()
    again = make_trainer(tokenizer, numbered, tmp_path, **values)
    assert again.train(resume_from_checkpoint=True).global_step == again.state.global_step == 3
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_newest_checkpoint_is_the_one_with_the_highest_step(tmp_path):
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-11", "checkpoint-x", "copied"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text("{}")
        if name != "checkpoint-11":  # what comes last is missing
            reseal(tmp_path / name)
    (tmp_path / "trainer_state.json").write_text("{}")  # trainer.save_state() leaves one; it is no checkpoint
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-10"
    assert find_checkpoint(tmp_path, "elsewhere") == tmp_path / "checkpoint-10"
    for name in ("checkpoint-2", "copied"):
        assert find_checkpoint(str(tmp_path / name), "elsewhere") == tmp_path / name
    for asked in (True, "True", "no/such/place"):
        with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .*--save_strategy epoch"):
            find_checkpoint(asked, "no/place")
    beside = r"it has no manifest.json.*The same folder also holds .*checkpoint-2, .*checkpoint-10\. Name another"
    with pytest.raises(ValueError, match=beside):
        find_checkpoint(tmp_path / "checkpoint-11", "")


def test_a_checkpoint_without_a_contract_is_refused(tokenizer, numbered, begun, tmp_path):
    shutil.copytree(begun[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    path = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(path.read_text())
    del state["stateful_callbacks"]["ResumeContract"]
    path.write_text(json.dumps(state))
    reseal(path.parent)
    with pytest.raises(ValueError, match=r"does not record which run it belongs to.*--model .*checkpoint-2"):
        make_trainer(tokenizer, numbered, tmp_path).train(resume_from_checkpoint=True)


def test_a_checkpoint_without_an_optimizer_is_refused(tokenizer, numbered, tmp_path):
    """Stock Trainer silently continues with a new optimizer."""
    make_trainer(tokenizer, numbered, tmp_path, save_only_model=True).train()
    with pytest.raises(ValueError, match=r"holds no optimizer.*without --save_only_model"):
        make_trainer(tokenizer, numbered, tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-2")


def test_a_collator_that_draws_from_a_generator_is_warned_about(tokenizer, numbered, tmp_path, caplog):
    collator = DataCollatorForLanguageModeling(tokenizer)
    make_trainer(tokenizer, numbered, tmp_path, data_collator=collator).train()
    again = make_trainer(tokenizer, numbered, tmp_path, data_collator=DataCollatorForLanguageModeling(tokenizer))
    again.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert "DataCollatorForLanguageModeling draws its masks from a generator" in caplog.text
    assert again.state.global_step == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"change_on_resume": ["seed"]}, "change_on_resume: received seed. Accepted: a value that can change"),
        ({"change_on_resume": ["learning_rat"]}, "learning_rat: no such value. Did you mean 'learning_rate'"),
    ],
)
def test_names_that_cannot_be_changed(changes, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**changes)
