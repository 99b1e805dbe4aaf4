"""What a run does on a stop signal and on a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from small_run import NUMBERED, STEPS, At, make_trainer, weights
from transformers import TrainerCallback

from mlm_recipes import MLMConfig
from mlm_recipes.checkpoints.storage import STAGED, fault, list_checkpoints
from mlm_recipes.training.faults.stop_signals import SIGNALS, Interrupted

pytestmark = pytest.mark.usefixtures("signals_as_ever")


def receive(number):
    return lambda model: os.kill(os.getpid(), number)


# Signals


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGUSR1))],
)
def test_a_signal_stops_the_run_after_its_step_and_nothing_is_lost(tokenizer, number):
    whole = make_trainer(tokenizer, NUMBERED, "whole")
    whole.train()
    before = signal.getsignal(number)
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(3, receive(number)))
    with pytest.raises(
        Interrupted,
        match=rf"stopped by {number.name}, after saving run/checkpoint-3\. To resume: mlm-recipes train run --resume",
    ):
        trainer.train()
    assert signal.getsignal(number) == before
    assert [path.name for path in list_checkpoints(Path("run"))] == ["checkpoint-2", "checkpoint-3"]
    again = make_trainer(tokenizer, NUMBERED)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(again), weights(whole))
    losses = [[entry["loss"] for entry in each.state.log_history if "loss" in entry] for each in (again, whole)]
    assert losses[0] == losses[1]  # the step that was interrupted was logged, too


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"save_strategy": "no"},
        {"save_strategy": "epoch", "per_device_train_batch_size": 4},  # the signal comes at an epoch's last step
        {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss"},
        {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "save_steps": 1}
        | {"save_total_limit": 1, "metric_for_best_model": "loss", "learning_rate": 0.5},  # the first stays the best
        {"eval_strategy": "steps", "eval_steps": 1, "lr_scheduler_type": "reduce_lr_on_plateau"},
    ],
)
def test_an_interrupted_run_is_the_same_with_any_saving_and_evaluation(tokenizer, changes):
    whole = make_trainer(tokenizer, NUMBERED, "whole", **changes)
    whole.train()
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(4, receive(signal.SIGTERM)), **changes)
    saved = []
    trainer.add_callback(At(5, lambda model: saved.append(1), event="on_save"))
    with pytest.raises(Interrupted):
        trainer.train()
    assert saved == [1]  # the step's own checkpoint or the signal's, not both
    again = make_trainer(tokenizer, NUMBERED, **changes)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == STEPS
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.slow
def test_an_evaluation_is_interrupted(tokenizer, monkeypatch):
    """It may take longer than the system waits before it kills the process."""
    trainer = make_trainer(tokenizer, NUMBERED, eval_strategy="steps", eval_steps=3, per_device_eval_batch_size=1)
    passes = []

    def count(module, arguments):
        passes.append(module.training)
        if passes.count(False) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.model.register_forward_pre_hook(count)
    with pytest.raises(Interrupted, match="checkpoint-3"):
        trainer.train()
    assert passes.count(False) == 3
    again = make_trainer(tokenizer, NUMBERED, eval_strategy="steps", eval_steps=3)
    again.train(resume_from_checkpoint=True)
    whole = make_trainer(tokenizer, NUMBERED, "whole")
    whole.train()
    assert torch.equal(weights(again), weights(whole))


def test_a_second_signal_gets_its_previous_handler(tokenizer):
    both = At(2, lambda model: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    trainer = make_trainer(tokenizer, NUMBERED, callback=both, save_strategy="no")
    with pytest.raises(KeyboardInterrupt) as found:
        trainer.train()
    assert not isinstance(found.value, Interrupted)
    assert list_checkpoints(Path("run")) == []


def test_a_signal_after_the_last_step_is_handled(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(STEPS + 1, receive(signal.SIGTERM), "on_train_end"))
    with pytest.raises(Interrupted, match=f"checkpoint-{STEPS}"):
        trainer.train()


def test_a_checkpoint_saved_on_a_signal_can_be_resumed_with_any_strategy(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, callback=At(3, receive(signal.SIGTERM)), save_only_model=True)
    with pytest.raises(Interrupted):
        trainer.train()
    assert make_trainer(tokenizer, NUMBERED).train(resume_from_checkpoint=True).global_step == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"lr_scheduler_type": "reduce_lr_on_plateau"}, {"load_best_model_at_end": True}])
def test_an_evaluation_that_affects_the_run_is_not_interrupted(tokenizer, changes):
    changes |= {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "learning_rate": 0.5}
    whole = make_trainer(tokenizer, NUMBERED, "whole", **changes)
    whole.train()
    trainer = make_trainer(tokenizer, NUMBERED, **changes)
    passes = []

    def count(module, arguments):
        passes.append(module.training)
        if not module.training and passes.count(False) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.model.register_forward_pre_hook(count)
    with pytest.raises(Interrupted):
        trainer.train()
    again = make_trainer(tokenizer, NUMBERED, **changes)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(again), weights(whole))


def test_torchruns_forwarded_signal_is_not_a_second_one(tokenizer, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    both = At(2, lambda model: [os.kill(os.getpid(), number) for number in (signal.SIGINT, signal.SIGTERM)])
    with pytest.raises(Interrupted, match="SIGINT"):
        make_trainer(tokenizer, NUMBERED, callback=both).train()


def test_an_ignored_signal_stays_ignored(tokenizer):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        trainer = make_trainer(tokenizer, NUMBERED, callback=At(2, receive(signal.SIGTERM)))
        assert trainer.train().global_step == STEPS
    finally:
        signal.signal(signal.SIGTERM, before)


def test_training_works_in_another_thread_and_says_that_signals_do_not_reach_it(tokenizer, caplog):
    found, before = [], [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=lambda: found.append(make_trainer(tokenizer, NUMBERED).train().global_step))
    thread.start()
    thread.join()
    assert found == [STEPS]
    assert [signal.getsignal(number) for number in SIGNALS] == before
    said = "SIGINT, SIGTERM, SIGUSR1: not handled in this run, which is not in the main thread"
    assert [said in record.message for record in caplog.records].count(True) == 1
    caplog.clear()
    make_trainer(tokenizer, NUMBERED, "main").train()
    assert "not handled" not in caplog.text


class ToWorkers(TrainerCallback):
    """Send SIGTERM to all, in the second step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            for worker in torch.multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_ignore_signals_during_training(tokenizer, context):
    values = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": context}
    trainer = make_trainer(tokenizer, NUMBERED, callback=ToWorkers(), **values)
    with pytest.raises(Interrupted, match="checkpoint-2"):
        trainer.train()


def test_a_worker_can_be_terminated_outside_training(tokenizer):
    """Python ends its processes with SIGTERM and waits for them, forever if they ignore it."""
    batches = iter(make_trainer(tokenizer, NUMBERED, dataloader_num_workers=1).get_train_dataloader())
    next(batches)
    (worker,) = torch.multiprocessing.active_children()

    with suppress(RuntimeError):  # torch's, if it hears of it first
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(10)
    worker.join(10)
    assert not worker.is_alive()


# A full disk


@contextmanager
def files_of_at_most(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# The tokenizer, the weights, the optimizer do not fit.
@pytest.mark.parametrize("kilobytes", [200, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 100, 400))])
def test_a_full_disk_ends_the_run_with_the_previous_checkpoint_intact(tokenizer, kilobytes):
    sizes = {}

    class Fill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                sizes.update({path.name: path.stat().st_size for path in Path("run/checkpoint-2").iterdir()})
                resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))

    with files_of_at_most(resource.RLIM_INFINITY):
        trainer = make_trainer(tokenizer, NUMBERED, callback=Fill())
        with pytest.raises(
            OSError, match=r"'run/checkpoint-4' could not be written: .* It needs about [\d,]+ bytes; "
        ) as found:
            trainer.train()
    assert "run/checkpoint-2 is undamaged" in str(found.value)
    assert max(sizes.values()) > kilobytes << 10
    assert fault(Path("run/checkpoint-2")) is None
    assert [path.name for path in Path("run").iterdir()] == ["checkpoint-2"]
    assert make_trainer(tokenizer, NUMBERED).train(resume_from_checkpoint=True).global_step == STEPS


def test_disk_space_is_checked_before_writing(tokenizer, monkeypatch):
    from mlm_recipes.checkpoints import storage

    free = storage.shutil.disk_usage(".")._replace(free=100_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: free)
    trainer = make_trainer(tokenizer, NUMBERED)
    monkeypatch.setattr(trainer, "save_model", lambda *args, **kwargs: pytest.fail("written"))
    with pytest.raises(
        OSError, match=r"it needs about [\d,]+ bytes, and 100,000 are free.*no checkpoint was saved before"
    ):
        trainer.train()


def test_leftovers_of_a_killed_save_are_removed(tokenizer):
    torn = Path("run") / STAGED / "checkpoint-1/model.safetensors"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"half")
    make_trainer(tokenizer, NUMBERED).train()
    assert sorted(path.name for path in Path("run").iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not any(path.name == "training_args.bin" for path in Path("run").rglob("*"))  # a pickle


def test_the_best_checkpoint_is_known_by_its_place_and_checked(tokenizer):
    values = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }
    trainer = make_trainer(tokenizer, NUMBERED, **values)
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.parent == Path("run")
    saved = json.loads((best / "trainer_state.json").read_text())
    assert saved["best_model_checkpoint"] == str(best)
    # Without learning none is better than the first.
    damaged = At(6, lambda model: Path("run/checkpoint-2/model.safetensors").write_bytes(b"damaged"))
    Path("run").rename("before")
    with pytest.raises(ValueError, match=r"load_best_model_at_end: 'run/checkpoint-2' is incomplete or damaged"):
        make_trainer(tokenizer, NUMBERED, callback=damaged, **values | {"learning_rate": 0.0}).train()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"on_nonfinite": "ignore"}, "on_nonfinite: received 'ignore'. Accepted: stop or skip"),
        ({"max_skipped_steps": -1}, "max_skipped_steps: received -1. Accepted: 0 or more"),
        ({"save_on_each_node": True}, "save_on_each_node: received True. Accepted: False"),
        ({"enable_jit_checkpoint": True}, "enable_jit_checkpoint: received True. Accepted: False: the state is saved"),
    ],
)
def test_refused_values(changes, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(use_cpu=True, **changes)


def test_a_trainer_sends_nothing_to_the_hub(tokenizer):
    with pytest.raises(ValueError, match=r"push_to_hub: received True\. Accepted here: False.*mlm_recipes\.train"):
        make_trainer(tokenizer, NUMBERED, push_to_hub=True, hub_token="secret", hub_model_id="a/b")


def test_a_model_that_cannot_be_written_is_a_clear_error(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED)
    says = "save: the model could not be written to 'out/of/space'"
    with files_of_at_most(50_000), pytest.raises(OSError, match=says):
        trainer.save_model("out/of/space")
