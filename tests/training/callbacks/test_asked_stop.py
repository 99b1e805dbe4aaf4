"""A stop that a callback asks for: with a checkpoint that a run can go on from, and in all processes together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from launched import run_together
from small_run import NUMBERED, STEPS, make_trainer, weights
from transformers import TrainerCallback

from mlm_recipes.checkpoints.storage import fault, list_checkpoints


class Stops(TrainerCallback):
    """Stop a run after a step, in one of its events, and count what is saved."""

    def __init__(self, step, event):
        self.step, self.saves = step, 0
        setattr(self, event, self._stop)

    def _stop(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        self.saves += 1


def saved(folder="run"):
    found = list_checkpoints(Path(folder))
    assert [fault(each) for each in found] == [None] * len(found)
    return [each.name for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("event", ["on_step_end", "on_evaluate"])
def test_a_run_that_a_callback_stops_goes_on_from_there_to_the_same_weights(tokenizer, event):
    values = {"eval_strategy": "steps", "eval_steps": 3}
    whole = make_trainer(tokenizer, NUMBERED, "whole", **values)
    whole.train()
    stops = Stops(3, event)
    trainer = make_trainer(tokenizer, NUMBERED, callback=stops, **values)
    assert trainer.train().global_step == 3
    assert saved() == ["checkpoint-2", "checkpoint-3"]
    assert stops.saves == 2
    again = make_trainer(tokenizer, NUMBERED, **values)
    assert again.train(resume_from_checkpoint=True).global_step == STEPS
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"save_strategy": "no"}, []),
        ({"save_strategy": "epoch"}, ["checkpoint-2"]),
        ({"save_steps": 2}, ["checkpoint-2"]),  # saved already, and not twice
        ({"save_steps": 2, "eval_strategy": "epoch"}, ["checkpoint-2"]),  # after the epoch's evaluation, which it ends
        ({"save_steps": 5}, ["checkpoint-2"]),
    ],
)
def test_it_is_saved_once_if_the_run_saves_at_all(tokenizer, changes, expected):
    stops = Stops(2, "on_step_end")
    make_trainer(tokenizer, NUMBERED, callback=stops, **changes).train()
    assert saved() == expected
    assert stops.saves == len(expected)


def test_a_callback_that_is_added_later_is_heard_too(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, save_steps=2, eval_strategy="epoch")
    trainer.add_callback(Stops(2, "on_step_end"))
    trainer.train()
    assert saved() == ["checkpoint-2"]
    logged = json.loads(Path("run/checkpoint-2/trainer_state.json").read_text("utf-8"))["log_history"]
    assert any("eval_loss" in entry for entry in logged)  # so the checkpoint waited for the evaluation


@pytest.mark.slow
def test_what_one_process_asks_for_all_do(tmp_path):
    run_together(2, ROOT / "tests/two_askers.py", tmp_path)
    first, second = (json.loads((tmp_path / f"steps-{rank}.json").read_text("utf-8")) for rank in (0, 1))
    assert first == second
    # A stop that is asked for while a step is logged counts at the end of the next one.
    stopped = {"stop": 3, "stop-logged": 4, "stop-evaluated": 4, "stop-epoch": 4, "stop-within": 3}
    assert first == stopped | {"save": STEPS, "save-evaluated": STEPS}
    steps = stopped | {"save": 3, "save-evaluated": 4}
    assert {name: saved(tmp_path / name)[0] for name in first} == {name: f"checkpoint-{steps[name]}" for name in first}
