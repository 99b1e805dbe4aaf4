"""The global batch of a run does not depend on the number of processes, which may change when it is resumed."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from conftest import reseal
from small_run import NUMBERED, make_trainer, weights

from mlm_recipes import MLMConfig
from mlm_recipes.training.batches.kept_batch import follow, layout


@pytest.mark.parametrize("batch", [1, 12, 16, 30, 96])
@pytest.mark.parametrize("micro", [1, 4, 6, 16])
def test_every_layout_has_the_global_batch(batch, micro):
    for processes in (number for number in range(1, batch + 1) if batch % number == 0):
        size, steps = layout(batch, micro, processes)
        assert size * steps * processes == batch
        assert 1 <= size <= micro


def test_a_micro_batch_that_fits_is_kept():
    assert [layout(48, 6, processes) for processes in (1, 2, 4, 8)] == [(6, 8), (6, 4), (6, 2), (6, 1)]
    assert layout(48, 6, 16) == (3, 1)  # more processes than the run began with


def test_processes_that_do_not_divide_it_are_refused():
    with pytest.raises(ValueError, match=r"^processes: received 3 for a global batch of 16.*: 1, 2, 4, 8, 16\. Start"):
        layout(16, 4, 3)


def config(processes, **values):
    names = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1, "global_batch_size": None}
    return SimpleNamespace(**names | {"world_size": processes} | values)


def test_what_follows_is_said(caplog):
    caplog.set_level(logging.INFO, "mlm_recipes")
    same = config(2)
    assert follow(same, 12) is same
    assert caplog.messages == []
    assert follow(config(1), 12).gradient_accumulation_steps == 2
    follow(config(3), 12)
    follow(config(4, global_batch_size=96), 96)
    assert caplog.messages == [
        "1 process: gradient_accumulation_steps 2; the global batch of 12 is as before.",
        "3 processes: per_device_train_batch_size 4 instead of 6, gradient_accumulation_steps 1; "
        "the global batch of 12 is as before.",
        "4 processes: gradient_accumulation_steps 4, for a global batch of 96.",
    ]


def as_of_two_processes(checkpoint):
    """Let a checkpoint be that of two processes, each of which takes one micro-batch of two rows in a step."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    contract = state["stateful_callbacks"]["ResumeContract"]["attributes"]["contract"]
    assert contract["facts"]["global batch"] == 4
    contract["values"]["gradient_accumulation_steps"] = 1
    path.write_text(json.dumps(state))
    reseal(checkpoint)
    return checkpoint


def test_one_process_goes_on_for_two(tokenizer, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mlm_recipes")
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "whole", gradient_accumulation_steps=2)
    whole.train()
    checkpoint = as_of_two_processes(tmp_path / "whole/checkpoint-2")
    rest = make_trainer(tokenizer, NUMBERED, tmp_path / "rest")
    rest.train(resume_from_checkpoint=checkpoint)
    assert torch.equal(weights(rest), weights(whole))
    assert "1 process: gradient_accumulation_steps 2; the global batch of 4 is as before." in caplog.messages
    # Its checkpoints hold the values that the run was given, with which it goes on in any number of processes.
    again = make_trainer(tokenizer, NUMBERED, tmp_path / "again")
    again.train(resume_from_checkpoint=tmp_path / "rest/checkpoint-4")
    assert torch.equal(weights(again), weights(whole))


def test_values_that_were_changed_by_hand_are_not_overruled(tokenizer, tmp_path):
    make_trainer(tokenizer, NUMBERED, tmp_path / "whole", gradient_accumulation_steps=2, max_steps=2).train()
    checkpoint = as_of_two_processes(tmp_path / "whole/checkpoint-2")
    changed = make_trainer(tokenizer, NUMBERED, tmp_path / "rest", gradient_accumulation_steps=3)
    with pytest.raises(ValueError, match="global batch was 4 and is now 6"):
        changed.train(resume_from_checkpoint=checkpoint)


@pytest.mark.slow
def test_the_global_batch_can_be_stated(tokenizer, tmp_path):
    stated = make_trainer(tokenizer, NUMBERED, tmp_path / "stated", global_batch_size=4)
    stated.train()
    plain = make_trainer(tokenizer, NUMBERED, tmp_path / "plain", gradient_accumulation_steps=2)
    plain.train()
    assert torch.equal(weights(stated), weights(plain))
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "resumed", global_batch_size=4)
    resumed.train(resume_from_checkpoint=tmp_path / "plain/checkpoint-2")
    assert torch.equal(weights(resumed), weights(plain))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"global_batch_size": 0}, "received 0. Accepted: 1 or more"),
        ({"global_batch_size": 30, "gradient_accumulation_steps": 4}, "received 30 with gradient_accumulation_steps 4"),
        ({"global_batch_size": 32, "tokens_per_batch": 512}, "received 512 with global_batch_size 32"),
    ],
)
def test_a_global_batch_that_cannot_be_is_refused(values, said):
    with pytest.raises(ValueError, match=f"_batch(_size)?: {said}"):
        MLMConfig(use_cpu=True, **values)


def test_the_recipe_of_a_run_states_what_was_given(tokenizer, tmp_path):
    values = MLMConfig(use_cpu=True, global_batch_size=64).to_recipe()
    assert (values["global_batch_size"], values["gradient_accumulation_steps"]) == (64, 1)
    assert MLMConfig(use_cpu=True, **values).to_recipe() == values
