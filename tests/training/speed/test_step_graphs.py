"""A recorded step has the loss, the gradients and the dropout of the same step without a recording."""

from __future__ import annotations

import pytest
import torch
from conftest import CHECKPOINTING, make_bert
from same_run import assert_close
from small_run import NUMBERED, STEPS, At, make_trainer, weights

from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.model.rounding_bounds import rounding_bound, summed_terms
from mlm_recipes.training.config import MLMConfig
from mlm_recipes.training.speed import fast_paths, step_graphs
from mlm_recipes.training.speed.cuda_graphs import CudaGraphs
from mlm_recipes.training.speed.fast_paths import can_record
from mlm_recipes.training.speed.step_graphs import StepGraphs
from mlm_recipes.training.trainer import MLMTrainer
from mlm_recipes.training.trainers.fast_trainer import FastTrainer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Again:
    """Runs what was recorded again, as a graph would: on the same tensors. It seems to take half the time."""

    def __init__(self):
        self.bytes, self.recorded, self.replays, self.takes = 0, 0, 0, 0.5

    def record(self, act):
        act()  # a graph's warm-up
        self.recorded += 1

        def replay():
            self.replays += 1
            act()

        self._last = replay
        return replay

    def seconds(self, act):
        act()
        return self.takes if act is getattr(self, "_last", None) else 1.0


@pytest.fixture
def recorder(monkeypatch):
    """Record on a CPU."""
    found = Again()
    monkeypatch.setattr(step_graphs, "CudaGraphs", lambda: found)
    monkeypatch.setattr("mlm_recipes.training.trainers.fast_trainer.can_record", lambda args, device: args.cuda_graphs)
    return found


def run(tokenizer, recorder, dropout=0.0, callback=None, rows=NUMBERED, **changes):
    """Return a finished run; with `cuda_graphs=False`, its batches are filled up too, so that dropout is the same."""
    values = {"save_strategy": "no", "max_steps": 12} | changes
    trainer = make_trainer(tokenizer, rows, callback=callback, **values)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    trainer.model.config.attention_probs_dropout_prob = dropout
    trainer.records_graphs = True  # fill up
    if not values.get("cuda_graphs", True):
        trainer.passes = super(FastTrainer, trainer).passes
    trainer.train()
    return trainer


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2},
        *(pytest.param(values, marks=pytest.mark.slow) for values in ({}, {"optim": "adamw_torch"}, {"muon": True})),
    ],
    ids=str,
)
def test_a_run_is_the_same_with_recordings(tokenizer, recorder, changes):
    plain, recorded = (run(tokenizer, recorder, dropout=0.1, cuda_graphs=on, **changes) for on in (False, True))
    assert recorder.recorded == recorded.graphs.facts["shapes"] >= 1
    assert recorder.replays > 6
    assert recorded.graphs.facts["seconds"] > 0
    assert not recorded.graphs.recorded  # freed at the end
    assert losses(recorded) == pytest.approx(losses(plain), rel=1e-6)
    assert_close(weights(recorded), weights(plain), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("most", [64, 2])
def test_a_masked_share_that_changes_brings_more_shapes_up_to_the_limit(tokenizer, recorder, monkeypatch, most):
    """The shapes of both phases are recorded, or what comes after the limit is computed as usual."""
    monkeypatch.setattr(step_graphs, "_MOST_SHAPES", most)
    rows = [row | {"input_ids": row["input_ids"][:2] + [200] * 80 + [102]} for row in NUMBERED]
    phases = {"mlm_probability": 0.5, "mlm_probability_schedule": "step", "mlm_probability_end": 0.1, "max_steps": 20}
    plain, recorded = (run(tokenizer, recorder, rows=rows, cuda_graphs=on, **phases) for on in (False, True))
    assert recorder.recorded == recorded.graphs.facts["shapes"] <= most
    assert recorder.recorded > 2 or most == 2
    assert recorder.replays > (8 if most == 64 else 2)
    assert losses(recorded) == pytest.approx(losses(plain), rel=1e-6)
    assert_close(weights(recorded), weights(plain), 1e-6)


@pytest.mark.slow
def test_filling_up_does_not_change_a_run(tokenizer, recorder):
    recorded = run(tokenizer, recorder)
    plain = make_trainer(tokenizer, NUMBERED, save_strategy="no", max_steps=12)
    plain.train()
    bound = rounding_bound(summed_terms(plain.model, 40, passes=3))
    assert losses(recorded) == pytest.approx(losses(plain), rel=bound)
    assert torch.equal(recorded.token_counter.counts()[:1], plain.token_counter.counts()[:1])
    assert recorded.token_counter.counts()[1] > 0  # filling counts as padding


def test_a_weight_without_a_gradient_stays_without_one(tokenizer, recorder):
    found = run(tokenizer, recorder, callback=Freeze(), weight_decay=0.5)
    first = make_bert(tokenizer).bert.embeddings.position_embeddings.weight
    assert torch.equal(found.model.bert.embeddings.position_embeddings.weight, first)
    assert recorder.replays


class Freeze(At):
    """Freeze the positions before the run."""

    def __init__(self):
        super().__init__(1, lambda model: None)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.bert.embeddings.position_embeddings.weight.requires_grad_(False)


def test_a_replay_that_differs_is_not_used(tokenizer, recorder, caplog):
    recorder.record = lambda act: lambda: None  # no gradient
    found = run(tokenizer, recorder, dropout=0.1)
    assert "cuda_graphs is off: the gradient of a replay differs by 1.0e+00" in caplog.text
    assert found.graphs.facts["shapes"] == 0
    plain = run(tokenizer, recorder, dropout=0.1, cuda_graphs=False)
    assert torch.equal(weights(found), weights(plain))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (RuntimeError("operation not permitted when stream is capturing"), "operation not permitted when stream"),
        (torch.OutOfMemoryError("CUDA out of memory."), "memory ran out while recording"),
    ],
)
def test_a_failed_recording_costs_nothing_but_its_time(tokenizer, recorder, caplog, fails, says):
    def record(act):
        act()
        raise fails

    recorder.record = record
    found = run(tokenizer, recorder, dropout=0.1)
    assert f"cuda_graphs is off: {says}" in caplog.text
    assert caplog.text.count("cuda_graphs is off") == 1
    plain = run(tokenizer, recorder, dropout=0.1, cuda_graphs=False)
    assert torch.equal(weights(found), weights(plain))


def test_a_replay_that_is_hardly_faster_is_not_used(tokenizer, recorder, caplog):
    recorder.takes = 0.97
    run(tokenizer, recorder)
    said = "cuda_graphs is off for 256 tokens or more: a replay takes 970.0 ms, and the pass itself 1000.0 ms"
    assert caplog.text.count(said) == 1
    assert recorder.recorded == 1


def test_weights_of_several_dtypes_are_not_recorded(recorder, caplog):
    model = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1).double()])

    def compute(batch, count):
        single, double = (layer(batch["input_ids"].to(layer.weight.dtype)).sum() for layer in model)
        loss = (single + double) / count
        loss.backward()
        return loss.detach()

    graphs = StepGraphs(model, compute, recorder=recorder)
    batch = {"input_ids": torch.ones(1, 2), "masked_lm_positions": torch.tensor([0])} | joined_row(torch.tensor([2]))
    losses = {graphs(batch, torch.tensor(1.0)).item() for _ in range(4)}
    assert len(losses) == 1
    assert "cuda_graphs is off: the gradients have several dtypes or devices" in caplog.text
    assert recorder.recorded == 0
    assert [layer.bias.grad.item() for layer in model] == [4.0, 4.0]


def test_a_large_batch_is_not_recorded(tokenizer, recorder, monkeypatch):
    monkeypatch.setattr(step_graphs, "MOST_TOKENS", 100)
    assert run(tokenizer, recorder).graphs.facts["shapes"] == recorder.recorded == 0


def padded(rows):
    """Pad to 32 tokens, and mask the second token of each row."""
    ids = torch.tensor([row["input_ids"] + [0] * (32 - len(row["input_ids"])) for row in rows])
    labels = torch.full_like(ids, -100)
    labels[:, 1] = ids[:, 1]
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def test_the_padded_batches_of_another_collator_are_not_recorded(tokenizer, recorder):
    """transformers asks the device whether they have padding, which cannot be recorded."""
    args = MLMConfig(output_dir="run", max_steps=6, per_device_train_batch_size=4, use_cpu=True, save_strategy="no")
    trainer = MLMTrainer(make_bert(tokenizer), args, padded, NUMBERED, processing_class=tokenizer)
    assert trainer.records_graphs
    trainer.train()
    assert recorder.recorded == 0


@pytest.mark.slow
def test_a_resumed_run_with_recordings_is_the_same(tokenizer, recorder):
    whole = run(tokenizer, recorder, dropout=0.1, save_strategy="steps", save_steps=5)
    resumed = make_trainer(tokenizer, NUMBERED, max_steps=12)
    for module in resumed.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    resumed.model.config.attention_probs_dropout_prob = 0.1
    resumed.train(resume_from_checkpoint="run/checkpoint-5")
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({CHECKPOINTING: True}, "gradient_checkpointing stores the state"),
        ({"torch_compile_mode": "reduce-overhead"}, "torch_compile_mode records graphs of its own"),
        ({}, "attention pads its sequences"),
        ({"cuda_graphs": False}, ""),
    ],
)
def test_the_reason_is_given_where_nothing_can_be_recorded(caplog, changes, says):
    args = MLMConfig(use_cpu=True, **changes)
    assert not can_record(args, torch.device("cpu"))
    assert not caplog.text
    assert not can_record(args, torch.device("cuda", 0))
    assert says in caplog.text
    assert bool(says) == bool(caplog.text)


class Unfreeze(Freeze):
    """Freeze the positions before the run, and train them from step 7 on."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 6:
            model.bert.embeddings.position_embeddings.weight.requires_grad_(True)


@pytest.mark.slow
def test_a_weight_that_is_trained_later_is_in_later_recordings(tokenizer, recorder):
    plain, recorded = (
        run(tokenizer, recorder, dropout=0.1, callback=Unfreeze(), cuda_graphs=on, max_steps=16) for on in (False, True)
    )
    assert recorder.recorded == 2  # the same shape, before and after
    assert losses(recorded) == pytest.approx(losses(plain), rel=1e-6)
    assert_close(weights(recorded), weights(plain), 1e-6)


def made(model, compute=lambda batch, count: None):
    return step_graphs.StepGraphs(model, compute, half=False, recorder=Again())


def test_gradients_are_where_a_tensor_of_their_own_would_be():
    model = torch.nn.ModuleList([torch.nn.Linear(3, 5), torch.nn.Linear(7, 11)])
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 2.0)
    graphs = made(model)
    graphs._make_gradients()
    assert all((weight.grad == 2).all() and weight.grad.data_ptr() % 16 == 0 for weight in model.parameters())
    assert {weight.grad.storage_offset() % 128 for weight in model.parameters()} == {0}
    # In the middle of a step: one is as it was, one was removed, one is elsewhere.
    kept, removed, elsewhere, _ = model.parameters()
    removed.grad, elsewhere.grad = None, torch.full_like(elsewhere, 3.0)
    graphs._collect_gradients()
    assert [weight.grad.unique().tolist() for weight in (kept, removed, elsewhere)] == [[2.0], [0.0], [3.0]]


def test_a_gradient_that_only_some_batches_have_is_not_recorded(tokenizer, recorder, caplog):
    class Loses(At):
        """Without the gradient of a weight when the gradients are collected for the first time."""

        def on_step_end(self, args, state, control, model=None, **kwargs):
            graphs = trainers[0].graphs
            if graphs._parts and not self.done:
                self.done = True
                graphs._parts.pop()

    trainers, make = [], make_trainer
    callback = Loses(1, lambda model: None)
    callback.done = False
    trainer = make(tokenizer, NUMBERED, callback=callback, save_strategy="no", max_steps=6)
    trainers.append(trainer)
    trainer.train()
    assert "cuda_graphs is off: a weight has a gradient that had none in an earlier batch" in caplog.text
    assert recorder.recorded == 0


def test_a_run_whose_batches_are_computed_in_parts_keeps_no_recordings(tokenizer, recorder):
    def short(model):
        trainers[0]._parts.parts = 2

    trainer = make_trainer(tokenizer, NUMBERED, callback=At(8, short), save_strategy="no", max_steps=12)
    trainers = [trainer]
    trainer.train()
    assert recorder.replays
    assert not trainer.graphs.recorded
    replays = recorder.replays
    assert replays <= 6


def test_only_the_precision_of_the_run_counts(monkeypatch, caplog):
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(fast_paths, "ASKED", {(cuda, torch.bfloat16, 64): None, (cuda, torch.float32, 64): "no"})
    assert can_record(MLMConfig(use_cpu=True, bf16=True), cuda)
    assert not caplog.text
    assert not can_record(MLMConfig(use_cpu=True, bf16=False), cuda)
    assert not can_record(MLMConfig(use_cpu=True, bf16=True, full_determinism=True), cuda)
    assert "attention pads its sequences" in caplog.text


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore")  # torch may warn of what a recording that fails leaves
def test_on_a_gpu_everything_goes_on_after_a_recording_that_failed():
    x, out = torch.ones(1000, device="cuda"), torch.empty(1000, device="cuda")
    before = torch.cuda.current_stream()

    def wait():
        torch.dropout(x, 0.5, True).sum().item()  # nothing may wait while it is recorded

    with pytest.raises(RuntimeError):
        CudaGraphs().record(wait)
    assert torch.cuda.current_stream() == before
    torch.manual_seed(3)
    expected = torch.dropout(x, 0.5, True)
    torch.cuda.empty_cache()
    replay = CudaGraphs().record(lambda: out.copy_(torch.dropout(x, 0.5, True)))
    torch.manual_seed(3)
    replay()
    assert torch.equal(out, expected)
    assert torch.equal(torch.dropout(x, 0.5, True), torch.dropout(x, 0.5, True)) is False


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore")
def test_on_a_gpu_a_run_that_cannot_be_recorded_goes_on(tokenizer, caplog):
    found = []
    for waits in (False, True):
        values = {"use_cpu": False, "bf16": True, "save_strategy": "no", "max_steps": 2 * STEPS, "cuda_graphs": True}
        trainer = make_trainer(tokenizer, NUMBERED, **values)
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        if waits:
            trainer.model.bert.encoder.layer[0].register_forward_hook(
                lambda *args: torch.ones(1).cuda().item() and None
            )
        else:
            trainer.passes = super(FastTrainer, trainer).passes
        trainer.train()
        found.append(losses(trainer))
    assert caplog.text.count("cuda_graphs is off") == 1
    assert found[1] == pytest.approx(found[0], rel=1e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("accumulation", [1, 2])
def test_on_a_gpu_a_run_is_the_same_with_graphs(tokenizer, accumulation, caplog):
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        values = {"use_cpu": False, "bf16": True, "save_strategy": "no", "max_steps": 4 * STEPS, "cuda_graphs": True}
        trainer = make_trainer(tokenizer, NUMBERED, gradient_accumulation_steps=accumulation, **values)
        if not on:
            trainer.passes = super(FastTrainer, trainer).passes
        trainer.train()
        found.append(losses(trainer))
        assert "cuda_graphs is off: the" not in caplog.text
        assert (trainer.graphs is not None and trainer.graphs.facts["shapes"] > 0) == on
    assert found[1] == pytest.approx(found[0], rel=1e-2)
