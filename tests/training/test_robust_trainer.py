"""What a run does on a stop signal, on a full disk, and with a number that is not finite."""

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
from conftest import make_bert
from transformers import TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.checkpoints.storage import STAGED, fault, list_checkpoints
from mlm_recipes.training.stop_signals import Interrupted

STEPS = 6


pytestmark = pytest.mark.usefixtures("signals_as_ever")


@pytest.fixture(scope="module")
def numbered():
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": [101, *torch.randint(104, 900, (n,), generator=generator).tolist(), 102], "example_id": 70 + i}
        for i, n in enumerate([5, 9, 3, 12, 7, 9, 4, 6])
    ]


def make_trainer(tokenizer, rows, folder="run", callback=None, **changes):
    values = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-3,
        "seed": 1, "save_steps": 2, "mlm_probability": 0.4, "use_cpu": True,
    }  # fmt: skip
    return MLMTrainer(
        make_bert(tokenizer), args=MLMConfig(**(values | changes)), train_dataset=rows, eval_dataset=rows,
        processing_class=tokenizer, callbacks=[callback] if callback else None,
    )  # fmt: skip


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


class At(TrainerCallback):
    """Do something within a step."""

    def __init__(self, step, act, event="on_step_begin"):
        self.step, self.act = step, act
        setattr(self, event, self._at)

    def _at(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            self.act(kwargs["model"])


def receive(number):
    return lambda model: os.kill(os.getpid(), number)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_the_run_after_its_step_and_nothing_is_lost(tokenizer, numbered, number):
    whole = make_trainer(tokenizer, numbered, "whole")
    whole.train()
    before = signal.getsignal(number)
    trainer = make_trainer(tokenizer, numbered, callback=At(3, receive(number)))
    with pytest.raises(
        Interrupted,
        match=rf"stopped by {number.name}, after saving run/checkpoint-3\. To resume: mlm-recipes train run --resume",
    ):
        trainer.train()
    assert signal.getsignal(number) == before
    assert [path.name for path in list_checkpoints(Path("run"))] == ["checkpoint-2", "checkpoint-3"]
    again = make_trainer(tokenizer, numbered)
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
def test_an_interrupted_run_is_the_same_with_any_saving_and_evaluation(tokenizer, numbered, changes):
    whole = make_trainer(tokenizer, numbered, "whole", **changes)
    whole.train()
    trainer = make_trainer(tokenizer, numbered, callback=At(4, receive(signal.SIGTERM)), **changes)
    saved = []
    trainer.add_callback(At(5, lambda model: saved.append(1), event="on_save"))
    with pytest.raises(Interrupted):
        trainer.train()
    assert saved == [1]  # the step's own checkpoint or the signal's, not both
    again = make_trainer(tokenizer, numbered, **changes)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == STEPS
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.slow
def test_an_evaluation_is_interrupted(tokenizer, numbered, monkeypatch):
    """It may take longer than the system waits before it kills the process."""
    trainer = make_trainer(tokenizer, numbered, eval_strategy="steps", eval_steps=3, per_device_eval_batch_size=1)
    passes = []

    def count(module, arguments):
        passes.append(module.training)
        if passes.count(False) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.model.register_forward_pre_hook(count)
    with pytest.raises(Interrupted, match="checkpoint-3"):
        trainer.train()
    assert passes.count(False) == 3
    assert trainer.model.training
    again = make_trainer(tokenizer, numbered, eval_strategy="steps", eval_steps=3)
    again.train(resume_from_checkpoint=True)
    whole = make_trainer(tokenizer, numbered, "whole")
    whole.train()
    assert torch.equal(weights(again), weights(whole))


def test_a_second_signal_gets_its_previous_handler(tokenizer, numbered):
    both = At(2, lambda model: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    trainer = make_trainer(tokenizer, numbered, callback=both, save_strategy="no")
    with pytest.raises(KeyboardInterrupt) as found:
        trainer.train()
    assert not isinstance(found.value, Interrupted)
    assert list_checkpoints(Path("run")) == []


def test_a_signal_after_the_last_step_is_handled(tokenizer, numbered):
    trainer = make_trainer(tokenizer, numbered, callback=At(STEPS + 1, receive(signal.SIGTERM), "on_train_end"))
    with pytest.raises(Interrupted, match=f"checkpoint-{STEPS}"):
        trainer.train()


def test_a_checkpoint_saved_on_a_signal_can_be_resumed_with_any_strategy(tokenizer, numbered):
    trainer = make_trainer(tokenizer, numbered, callback=At(3, receive(signal.SIGTERM)), save_only_model=True)
    with pytest.raises(Interrupted):
        trainer.train()
    assert make_trainer(tokenizer, numbered).train(resume_from_checkpoint=True).global_step == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"lr_scheduler_type": "reduce_lr_on_plateau"}, {"load_best_model_at_end": True}])
def test_an_evaluation_that_affects_the_run_is_not_interrupted(tokenizer, numbered, changes):
    changes |= {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "learning_rate": 0.5}
    whole = make_trainer(tokenizer, numbered, "whole", **changes)
    whole.train()
    trainer = make_trainer(tokenizer, numbered, **changes)
    passes = []

    def count(module, arguments):
        passes.append(module.training)
        if not module.training and passes.count(False) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.model.register_forward_pre_hook(count)
    with pytest.raises(Interrupted):
        trainer.train()
    again = make_trainer(tokenizer, numbered, **changes)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(again), weights(whole))


def test_torchruns_forwarded_signal_is_not_a_second_one(tokenizer, numbered, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    both = At(2, lambda model: [os.kill(os.getpid(), number) for number in (signal.SIGINT, signal.SIGTERM)])
    with pytest.raises(Interrupted, match="SIGINT"):
        make_trainer(tokenizer, numbered, callback=both).train()


def test_an_ignored_signal_stays_ignored(tokenizer, numbered):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        trainer = make_trainer(tokenizer, numbered, callback=At(2, receive(signal.SIGTERM)))
        assert trainer.train().global_step == STEPS
    finally:
        signal.signal(signal.SIGTERM, before)


def test_training_works_in_another_thread(tokenizer, numbered):
    found = []
    thread = threading.Thread(target=lambda: found.append(make_trainer(tokenizer, numbered).train().global_step))
    thread.start()
    thread.join()
    assert found == [STEPS]


class ToWorkers(TrainerCallback):
    """Send SIGTERM to all, in the second step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            for worker in torch.multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_ignore_signals_during_training(tokenizer, numbered, context):
    values = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": context}
    trainer = make_trainer(tokenizer, numbered, callback=ToWorkers(), **values)
    with pytest.raises(Interrupted, match="checkpoint-2"):
        trainer.train()


def test_a_worker_can_be_terminated_after_training(tokenizer, numbered):
    """Python ends its processes with SIGTERM and waits for them, forever if they ignore it."""
    values = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "max_steps": 1}
    trainer = make_trainer(tokenizer, numbered, **values)
    trainer.train()
    (worker,) = torch.multiprocessing.active_children()  # persistent: still there

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


@pytest.mark.parametrize("kilobytes", [1, 100, 200, 400])  # the tokenizer, the weights, the optimizer do not fit
def test_a_full_disk_ends_the_run_with_the_previous_checkpoint_intact(tokenizer, numbered, kilobytes):
    sizes = {}

    class Fill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                sizes.update({path.name: path.stat().st_size for path in Path("run/checkpoint-2").iterdir()})
                resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))

    with files_of_at_most(resource.RLIM_INFINITY):
        trainer = make_trainer(tokenizer, numbered, callback=Fill())
        with pytest.raises(
            OSError, match=r"'run/checkpoint-4' could not be written: .* It needs about [\d,]+ bytes; "
        ) as found:
            trainer.train()
    assert "run/checkpoint-2 is undamaged" in str(found.value)
    assert max(sizes.values()) > kilobytes << 10
    assert fault(Path("run/checkpoint-2")) is None
    assert [path.name for path in Path("run").iterdir()] == ["checkpoint-2"]
    assert make_trainer(tokenizer, numbered).train(resume_from_checkpoint=True).global_step == STEPS


def test_disk_space_is_checked_before_writing(tokenizer, numbered, monkeypatch):
    from mlm_recipes.checkpoints import storage

    free = storage.shutil.disk_usage(".")._replace(free=100_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: free)
    trainer = make_trainer(tokenizer, numbered)
    monkeypatch.setattr(trainer, "save_model", lambda *args, **kwargs: pytest.fail("written"))
    with pytest.raises(
        OSError, match=r"it needs about [\d,]+ bytes, and 100,000 are free.*no checkpoint was saved before"
    ):
        trainer.train()


def test_leftovers_of_a_killed_save_are_removed(tokenizer, numbered):
    torn = Path("run") / STAGED / "checkpoint-1/model.safetensors"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"half")
    make_trainer(tokenizer, numbered).train()
    assert sorted(path.name for path in Path("run").iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not any(path.name == "training_args.bin" for path in Path("run").rglob("*"))  # a pickle


def test_the_best_checkpoint_is_known_by_its_place_and_checked(tokenizer, numbered):
    values = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }
    trainer = make_trainer(tokenizer, numbered, **values)
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.parent == Path("run")
    saved = json.loads((best / "trainer_state.json").read_text())
    assert saved["best_model_checkpoint"] == str(best)
    # Without learning none is better than the first.
    damaged = At(6, lambda model: Path("run/checkpoint-2/model.safetensors").write_bytes(b"damaged"))
    Path("run").rename("before")
    with pytest.raises(ValueError, match=r"load_best_model_at_end: 'run/checkpoint-2' is incomplete or damaged"):
        make_trainer(tokenizer, numbered, callback=damaged, **values | {"learning_rate": 0.0}).train()


# Numbers that are not finite


def spoil(value):
    """Give the loss of the next pass a value."""

    def act(model):
        def add(module, arguments, outputs):
            handle.remove()
            outputs["logits"] = outputs["logits"] + value
            return outputs

        handle = model.register_forward_hook(add)

    return act


def spoil_gradient(model):
    handle = model.get_output_embeddings().weight.register_hook(lambda grad: (handle.remove(), grad * torch.nan)[1])


@pytest.mark.parametrize("act", [spoil(torch.nan), spoil(torch.inf), spoil_gradient])
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_number_that_is_not_finite_stops_the_run_before_the_update(tokenizer, numbered, act, max_grad_norm):
    until = make_trainer(tokenizer, numbered, "until", max_steps=4, lr_scheduler_type="constant")
    until.train()
    values = {"lr_scheduler_type": "constant", "max_grad_norm": max_grad_norm}
    trainer = make_trainer(tokenizer, numbered, callback=At(5, act), **values)
    with pytest.raises(
        ValueError, match=r"train: at step 5 \(learning rate 0.001\).*newest checkpoint is run/checkpoint-4"
    ) as found:
        trainer.train()
    if act is not spoil_gradient:
        order = make_trainer(tokenizer, numbered).epoch_sampler(numbered, 1)
        order.set_epoch(1)
        ids = ", ".join(str(70 + place % 8) for place in list(order)[:2])
        assert f"nan in process 0 (example_id {ids})" in str(found.value)
    if max_grad_norm:
        assert torch.equal(weights(trainer), weights(until))
    assert torch.isfinite(weights(trainer)).all()


def test_an_infinite_loss_with_a_finite_gradient_stops_the_run_too(tokenizer, numbered):
    trainer = make_trainer(tokenizer, numbered)
    inner = trainer._loss
    trainer._loss = lambda *args: inner(*args) + (torch.inf if trainer.state.global_step == 2 else 0.0)
    with pytest.raises(ValueError, match=r"at step 3 .*the loss is not finite: nan in process 0"):
        trainer.train()


def test_the_examples_of_any_micro_batch_are_known(tokenizer, numbered):
    """Also after a resume, and if the last step of an epoch has fewer micro-batches than the others."""
    seen = []
    values = {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 1, "max_steps": 7}
    trainer = make_trainer(tokenizer, numbered, **values)
    inner = trainer.training_step

    def training_step(model, inputs, *args, **kwargs):
        said = trainer.examples_of(len(trainer._losses))
        (row,) = [row for row in numbered if f"example_id {row['example_id']}" == said]
        seen.append(inputs["input_ids"].shape[1] == len(row["input_ids"]))
        return inner(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
    trainer.train()
    seen_at_first = len(seen)
    trainer.train(resume_from_checkpoint="run/checkpoint-4")
    assert seen_at_first > 15
    assert len(seen) > seen_at_first
    assert all(seen)


def test_a_non_finite_step_can_be_skipped_and_is_counted(tokenizer, numbered):
    trainer = make_trainer(tokenizer, numbered, callback=At(3, spoil(torch.nan)), on_nonfinite="skip")
    trainer.train()
    assert trainer.skipped_steps == [3]
    assert trainer.state.global_step == STEPS
    assert torch.isfinite(weights(trainer)).all()
    entries = {entry["step"]: entry for entry in trainer.state.log_history}
    assert "loss" not in entries[3]  # upstream would have logged 0
    assert entries[2]["loss"] > 0 < entries[4]["loss"]
    two = make_trainer(tokenizer, numbered, "two", max_steps=2)
    two.train()
    three = make_trainer(tokenizer, numbered, "two", max_steps=3, callback=At(3, spoil(torch.nan)), on_nonfinite="skip")
    three.args.change_on_resume = ["max_steps"]
    three.train(resume_from_checkpoint=True)
    assert torch.equal(weights(three), weights(two))  # no update, no decay, no momentum
    again = make_trainer(tokenizer, numbered)
    again.train(resume_from_checkpoint="run/checkpoint-4")
    assert again.skipped_steps == [3]
    assert torch.equal(weights(again), weights(trainer))


def test_more_skipped_steps_than_allowed_stop_the_run(tokenizer, numbered):
    class Always(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            spoil(torch.nan)(model)

    trainer = make_trainer(tokenizer, numbered, callback=Always(), on_nonfinite="skip", max_skipped_steps=2)
    with pytest.raises(ValueError, match=r"at step 3 .*which were skipped: 1, 2\).*--max_skipped_steps"):
        trainer.train()


@pytest.mark.parametrize("changes", [{"muon": True}, {"optim": "adamw_torch"}, {"optim": "sgd"}])
def test_any_optimizer_can_skip_a_step(tokenizer, numbered, changes):
    at_first = make_trainer(tokenizer, numbered)
    trainer = make_trainer(
        tokenizer, numbered, callback=At(1, spoil(torch.nan)), on_nonfinite="skip", max_steps=1, weight_decay=0.1,
        **changes,
    )  # fmt: skip
    trainer.train()
    assert torch.equal(weights(trainer), weights(at_first))


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


def test_a_trainer_sends_nothing_to_the_hub(tokenizer, numbered):
    with pytest.raises(ValueError, match=r"push_to_hub: received True\. Accepted here: False.*mlm_recipes\.train"):
        make_trainer(tokenizer, numbered, push_to_hub=True, hub_token="secret", hub_model_id="a/b")


def test_a_model_that_cannot_be_written_is_a_clear_error(tokenizer, numbered):
    trainer = make_trainer(tokenizer, numbered)
    says = "save: the model could not be written to 'out/of/space'"
    with files_of_at_most(50_000), pytest.raises(OSError, match=says):
        trainer.save_model("out/of/space")
