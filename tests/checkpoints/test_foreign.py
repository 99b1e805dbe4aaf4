"""Checkpoints of other programs: the refusal to resume them says what they are and how to use their weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from accelerate import Accelerator
from conftest import make_bert
from small_run import NUMBERED, make_trainer
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from mlm_recipes import cli
from mlm_recipes.checkpoints.foreign import foreign
from mlm_recipes.checkpoints.resume_contract import find_checkpoint
from mlm_recipes.checkpoints.storage import newest_whole


@pytest.fixture(scope="module")
def plain(tokenizer, tmp_path_factory):
    """The output folder of transformers' Trainer, after two steps."""
    folder = tmp_path_factory.mktemp("plain")
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in NUMBERED]
    trainer = Trainer(
        make_bert(tokenizer),
        TrainingArguments(str(folder), max_steps=2, save_steps=1, report_to="none", use_cpu=True, disable_tqdm=True,
                          per_device_train_batch_size=1, logging_steps=500),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return folder


@pytest.mark.parametrize("asked", ["checkpoint", "folder", True])
def test_a_checkpoint_of_trainer_says_how_to_go_on(plain, asked):
    place = {"checkpoint": plain / "checkpoint-2", "folder": plain}.get(asked, True)
    with pytest.raises(ValueError, match=r"-2' is a checkpoint of transformers' Trainer.*Accepted: .*") as caught:
        find_checkpoint(place, plain)
    assert str(caught.value).endswith(f"without --resume_from_checkpoint: --model {plain / 'checkpoint-2'}.")


def test_it_is_said_by_the_trainer_and_on_the_command_line(plain, tokenizer, tmp_path, capsys):
    shutil.copytree(plain, tmp_path / "run")
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path / "run")
    with pytest.raises(ValueError, match=r"is a checkpoint of transformers' Trainer.*--model"):
        trainer.train(resume_from_checkpoint=True)
    assert cli.main(["train", "--output_dir", "run", "--resume_from_checkpoint", "true"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "run/checkpoint-2' is a checkpoint of transformers' Trainer" in said
    assert said.endswith("--model run/checkpoint-2.")


def test_auto_says_what_it_passes_over(plain, caplog):
    assert newest_whole(plain) is None
    assert "checkpoint-2 is skipped: it is a checkpoint of transformers' Trainer." in caplog.text


def test_one_of_ours_that_lost_its_manifest_is_damaged(tokenizer, tmp_path):
    make_trainer(tokenizer, NUMBERED, tmp_path / "ours", max_steps=2).train()
    (tmp_path / "ours/checkpoint-2/manifest.json").unlink()
    assert foreign(tmp_path / "ours/checkpoint-2") is None
    with pytest.raises(ValueError, match=r"incomplete or damaged: it has no manifest.json"):
        find_checkpoint(tmp_path / "ours/checkpoint-2", "")


def test_a_state_of_accelerate(tokenizer, tmp_path):
    accelerator, model = Accelerator(cpu=True), make_bert(tokenizer)
    accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    accelerator.save_state(str(tmp_path / "states/step_10"))
    says = "step_10' is a state that accelerate saved.*--model states/step_10, after copying config.json and"
    with pytest.raises(ValueError, match=says):
        find_checkpoint("states/step_10", "")
    with pytest.raises(ValueError, match=says):
        find_checkpoint("states", "")


@pytest.mark.parametrize("resume", ["auto", False])
def test_a_new_run_does_not_replace_it(resume, tokenizer, tmp_path):
    saved = tmp_path / "run/checkpoint-2"
    saved.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "trainer_state.json"):
        (saved / name).write_text(json.dumps({"global_step": 2}))
    (tmp_path / "run/checkpoint-best").mkdir()
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path / "run", max_steps=2)
    with pytest.raises(ValueError, match=r"^output_dir: .* holds checkpoint-2, a checkpoint of transformers' Trainer"):
        trainer.train(resume_from_checkpoint=resume)
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors", "trainer_state.json"}
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", max_steps=1, save_strategy="no").train()


FILES = {
    "deepspeed": (
        ["zero_to_fp32.py", "latest", "global_step4/mp_rank_00_model_states.pt", "trainer_state.json"],
        "is a checkpoint of DeepSpeed.*python saved/zero_to_fp32.py saved NEW --safe_serialization.*--model NEW",
    ),
    "fsdp, sharded": (
        ["pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata", "trainer_state.json"],
        r"a checkpoint with a sharded state \(FSDP\).*merge-weights saved/pytorch_model_fsdp_0 NEW.*--model NEW",
    ),
    "a pickle": (
        ["config.json", "tokenizer.json", "pytorch_model.bin", "trainer_state.json"],
        "is a checkpoint of transformers' Trainer.*Convert pytorch_model.bin.*save_pretrained\\('NEW'",
    ),
    "an adapter": (
        ["adapter_config.json", "adapter_model.safetensors", "trainer_state.json"],
        "is a checkpoint of transformers' Trainer.*an adapter only.*merge_and_unload",
    ),
    "whole weights beside shards": (
        ["config.json", "tokenizer.json", "model.safetensors", "global_step4/x.pt", "trainer_state.json"],
        "is a checkpoint of DeepSpeed.*without --resume_from_checkpoint: --model saved\\.",
    ),
    "a model": (
        ["config.json", "tokenizer.json", "model.safetensors"],
        "is a model without the state of a training.*--model saved\\.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_what_it_is_and_what_to_do(kind, tmp_path):
    names, says = FILES[kind]
    for name in names:
        (tmp_path / "saved" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "saved" / name).write_text(json.dumps({"global_step": 4}))
    with pytest.raises(ValueError, match=rf"^resume_from_checkpoint: 'saved' .*{says}"):
        find_checkpoint("saved", "")


def test_a_folder_of_anything_else_is_no_checkpoint(tmp_path):
    (tmp_path / "notes").mkdir()
    assert foreign(tmp_path / "notes") is None
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in 'notes'"):
        find_checkpoint("notes", "")
