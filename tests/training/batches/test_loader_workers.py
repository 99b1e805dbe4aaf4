"""No worker process outlives the training or the evaluation that it was for."""

from __future__ import annotations

import multiprocessing

import pytest
from small_run import NUMBERED, make_trainer


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_training_and_evaluating_leave_no_workers(tokenizer, tmp_path, persistent):
    workers = {"dataloader_num_workers": 2, "dataloader_persistent_workers": persistent, "eval_strategy": "steps"}
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path, max_steps=2, eval_steps=1, save_strategy="no", **workers)
    trainer.train()
    assert multiprocessing.active_children() == []
    before = trainer.evaluate()["eval_loss"]
    assert multiprocessing.active_children() == []
    assert trainer.evaluate()["eval_loss"] == before


def test_workers_end_when_training_fails(tokenizer, tmp_path, monkeypatch):
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path, save_strategy="no", **workers)

    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(trainer, "training_step", fail)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert multiprocessing.active_children() == []
