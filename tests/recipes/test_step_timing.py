from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import make_bert
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes import MLMConfig, MLMTrainer, cli, evaluate, reference, train
from mlm_recipes.recipes import step_timing
from mlm_recipes.recipes import train as train_module
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.plan import _newest, _with_length
from mlm_recipes.recipes.step_timing import FEWEST, SMALLEST, batch_size, fit, time_steps, with_batch_size


@pytest.fixture
def values(checkpoint, short_text):
    return {
        "model": str(checkpoint), "corpus": str(short_text), "max_length": 32, "save_strategy": "no",
        "general_corpus": "none",
    }  # fmt: skip


PHASES = {"mlm_probability": 0.5, "mlm_probability_schedule": "step", "mlm_probability_end": [0.1]}


@pytest.fixture
def slow_machine(monkeypatch):
    """A machine on which a step takes a second, plus 0.05 for each row; returns the batch sizes that were timed."""
    timed = []

    def seconds(model, config, rows, tokenizer, warm_up, steps, quiet):
        timed.append(config.per_device_train_batch_size)
        return [1 + config.per_device_train_batch_size / 20] * steps

    monkeypatch.setattr(train_module, "time_steps", seconds)
    return timed


@given(
    minutes=st.floats(0.01, 100), at_most=st.sampled_from([-1, 1, 7, 130]), batch=st.integers(1, 64),
    each=st.floats(0, 10), row=st.floats(0.001, 10), multiple=st.sampled_from([1, 3, 8, 16]),
)  # fmt: skip
def test_the_plan_never_exceeds_the_time(minutes, at_most, batch, each, row, multiple):
    found = fit(minutes, at_most, batch, lambda rows: each + row * rows, multiple=multiple)
    assert found.batch in (batch, SMALLEST) or found.batch < multiple or found.batch % multiple == 0
    assert found.seconds_per_step == each + row * found.batch
    assert min(batch, SMALLEST) <= found.batch <= batch
    assert found.steps >= 1
    assert at_most < 0 or found.steps <= at_most
    if found.steps > 1:
        assert found.steps * found.seconds_per_step <= 60 * minutes * (1 + 1e-9)
    if found.steps != at_most:  # the remaining time is too short for a step
        assert (found.steps + 1) * found.seconds_per_step > 60 * minutes * (1 - 1e-9)
    wanted = FEWEST if at_most < 0 else min(FEWEST, at_most)
    assert found.steps >= wanted or found.batch <= SMALLEST  # the batch is not too large for the time
    if found.batch < batch:
        assert math.floor(60 * minutes / (each + row * batch)) < wanted  # and not smaller than necessary


def test_warm_up_steps_are_not_timed(monkeypatch):
    clock = step_timing._Clock(warm_up=2)
    clock._times = [0.0, 10.0, 15.0, 16.0, 18.0]
    assert clock.timed() == [1.0, 2.0]
    clock._times = [0.0, 10.0, 15.0]  # it was too slow for more steps
    assert clock.timed() == [5.0]


def test_real_steps_are_timed_and_leave_no_files(tokenizer, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = MLMConfig(per_device_train_batch_size=4, train_minutes=1, lr_scheduler_type="reduce_lr_on_plateau",
                       eval_strategy="steps", eval_steps=1, dataloader_drop_last=True)  # fmt: skip
    found = time_steps(make_bert(tokenizer), config, rows, tokenizer, 1, 3)
    assert len(found) == 3
    assert all(seconds > 0 for seconds in found)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(step_timing, "SECONDS", -1.0)  # if steps are slow, a single one is timed
    assert len(time_steps(make_bert(tokenizer), config, rows, tokenizer, 1, 3)) == 1


@pytest.mark.parametrize("first", [{"head_warmup_steps": 9}, {"add_tokens": ["zzword"], "train_new_tokens_first": 9}])
def test_steps_that_train_only_a_part_are_not_timed(tokenizer, rows, tmp_path, first):
    model = make_bert(tokenizer)
    before = model.bert.encoder.layer[0].attention.self.query.weight.detach().clone()
    args = MLMConfig(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=2, learning_rate=1e-2, **first)
    time_steps(model, args, rows, tokenizer, 1, 1)
    assert not torch.equal(model.bert.encoder.layer[0].attention.self.query.weight, before)


@pytest.mark.parametrize("changes", [{"mlm_probability_boundaries": [0.75]}, {"mlm_probability_schedule": "linear"}])
def test_steps_are_timed_with_the_mean_share_of_the_run(tokenizer, rows, tmp_path, monkeypatch, caplog, changes):
    seen = []
    monkeypatch.setattr(MLMTrainer, "train", lambda self, **_: seen.append(self))
    args = MLMConfig(output_dir=str(tmp_path), use_cpu=True, max_steps=1000, **PHASES | changes)
    time_steps(make_bert(tokenizer), args, rows, tokenizer, 1, 2)
    mean = 0.4 if "mlm_probability_boundaries" in changes else 0.3
    assert seen[0].args.mlm_probability == seen[0].data_collator.mlm_probability == pytest.approx(mean)
    assert seen[0].args.probability_schedule() is None
    assert args.probability_schedule().shares == (0.5, 0.1)


@pytest.fixture
def chosen(values, slow_machine, monkeypatch):
    """Return the config with the length that `train` chooses, without training."""
    monkeypatch.setattr(train_module, "time_steps", lambda model, config, *_, **__: [1 + batch_size(config) / 20])
    monkeypatch.setattr(train_module, "_train", lambda run, *_, **__: run)
    return lambda **changes: train("adapt", **values | {"train_minutes": 0.11} | changes).config


def test_a_global_batch_becomes_smaller_and_its_parts_follow(chosen, values, caplog):
    caplog.set_level("INFO")
    given = {"per_device_train_batch_size": 4, "global_batch_size": 64, "gradient_accumulation_steps": 4}
    found = chosen(**given)
    assert (found.global_batch_size, found.per_device_train_batch_size, found.max_steps) == (SMALLEST, 4, 4)
    assert "Batches of 8 instead of 64, so that there are enough steps." in caplog.text
    fits = chosen(max_steps=1, **given)
    assert {name: getattr(fits, name) for name in given} == given
    # A run that is resumed has the batch of its beginning.
    again = _with_length(read_config("adapt", {"train_minutes": 5, **given}), found.to_recipe())
    assert (again.global_batch_size, again.max_steps, again.train_minutes) == (SMALLEST, 4, None)
    # It is found by the other values.
    recipe, compared = found.to_recipe(), []
    config = read_config("adapt", values | {"train_minutes": 0.11, "output_dir": "run", **given})
    _newest(config, lambda folder, asked: compared.append(asked))
    assert {name: recipe[name] for name in compared[0]} == compared[0]


def test_a_global_batch_is_counted_by_process(monkeypatch):
    monkeypatch.setattr("mlm_recipes.training.config.MLMConfig.world_size", 2)
    config = MLMConfig(global_batch_size=64)
    assert batch_size(config) == 32
    assert with_batch_size(config, 32).global_batch_size == 64
    assert with_batch_size(config, 8).global_batch_size == 16
    odd = MLMConfig(global_batch_size=65)  # which the trainer refuses by its own name
    assert with_batch_size(odd, batch_size(odd)).global_batch_size == 65


@pytest.mark.slow
def test_a_run_takes_the_steps_that_fit_and_its_recipe_repeats_it(values, slow_machine, caplog):
    caplog.set_level("INFO")
    run = train("adapt", train_minutes=0.11, per_device_train_batch_size=16, **values)
    # 6.6 s are three steps of 1.8 s: too few, so the batch becomes smaller.
    assert slow_machine == [16, SMALLEST]
    assert "4 steps take about 6 seconds on this machine (1.4 s each)." in caplog.text
    assert "Batches of 8 instead of 16, so that there are enough steps." in caplog.text
    assert run.metrics["train"]["steps"] == 4
    recipe = read_config(run.output_dir)
    assert (recipe.train_minutes, recipe.max_steps, recipe.per_device_train_batch_size) == (None, 4, 8)
    again = train(run.output_dir / "recipe.yaml", output_dir="again")
    assert len(slow_machine) == 2  # nothing is timed again
    assert again.metrics["train"]["history"] == run.metrics["train"]["history"]
    assert again.metrics["after"]["loss"] == run.metrics["after"]["loss"]


@pytest.mark.slow
def test_a_run_of_so_many_tokens_takes_the_steps_that_fit(values, slow_machine, monkeypatch, caplog):
    caplog.set_level("INFO")
    sizes = []

    def seconds(model, config, rows, tokenizer, warm_up, steps, quiet):
        sizes.append(config.tokens_per_batch)
        return [1 + config.tokens_per_batch / 1000] * steps

    monkeypatch.setattr(train_module, "time_steps", seconds)
    run = train("adapt", train_minutes=0.11, tokens_per_batch=1000, **values)
    assert sizes[0] == 1000
    assert 8 * 10 < sizes[1] < 8 * 32, "eight rows of the mean length"
    assert f"Batches of {sizes[1]} instead of 1,000 tokens, so that there are enough steps." in caplog.text
    recipe = read_config(run.output_dir)
    assert (recipe.train_minutes, recipe.tokens_per_batch) == (None, sizes[1])
    assert recipe.max_steps == run.metrics["train"]["steps"] == int(6.6 / (1 + sizes[1] / 1000))
    assert "in batches of about " in caplog.text


@pytest.mark.slow
def test_a_timed_run_equals_its_recipes_bit_for_bit(values):
    """With dropout, to show that the random numbers of timed steps have no effect."""
    run = train("adapt", train_minutes=0.001, max_steps=2, output_dir="timed", **values)
    again = train(run.output_dir / "recipe.yaml", output_dir="again")
    assert again.metrics["train"]["history"] == run.metrics["train"]["history"]
    assert (run.output_dir / "model.safetensors").read_bytes() == (again.output_dir / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_warning_is_logged_once_with_several_trainers(values, monkeypatch, caplog):
    monkeypatch.setattr("mlm_recipes.training.speed.precision.has_fast_bf16", lambda use_cpu: False)
    train("adapt", train_minutes=0.001, max_steps=2, bf16=True, **values)
    assert caplog.text.count("bf16 is on") == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_before_its_first_step_leaves_nothing(values, monkeypatch, capsys, stop, signals_as_ever):
    """Its message does not name a checkpoint that no longer exists, either."""
    monkeypatch.setattr(step_timing._Clock, "on_step_end", lambda *_, **__: os.kill(os.getpid(), stop))
    given = [f"--{name}={value}" for name, value in values.items()]
    assert cli.main(["train", "adapt", "--train_minutes", "1", *given]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "mlm-recipes: interrupted"
    assert not Path("runs").exists()


@pytest.mark.slow
def test_max_steps_limits_the_chosen_steps(values, slow_machine, caplog):
    caplog.set_level("INFO")
    run = train("adapt", train_minutes=10, max_steps=3, **values)
    assert run.metrics["train"]["steps"] == 3
    assert "instead of" not in caplog.text


@pytest.mark.slow
def test_a_resumed_run_keeps_the_chosen_steps(values, slow_machine):
    values |= {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 3}
    run = train("adapt", train_minutes=0.11, output_dir="run", **values)
    assert run.metrics["train"]["steps"] == 4
    (run.output_dir / "metrics.json").unlink()  # as if it had been interrupted
    for asked in ("true", "auto"):
        again = train("adapt", train_minutes=0.11, output_dir="run", resume_from_checkpoint=asked, **values)
        assert again.metrics["train"]["steps"] == 4
        assert again.metrics["train"]["resumed"][-1]["changed"] == {}
        (again.output_dir / "metrics.json").unlink()
    elsewhere = train("adapt", train_minutes=9, output_dir="new", resume_from_checkpoint="run/checkpoint-2", **values)
    assert elsewhere.metrics["train"]["steps"] == 4
    assert slow_machine == [16, SMALLEST]  # it was timed only once, at its start


def test_the_last_request_for_a_length_applies():
    def length(**overrides):
        config = read_config("quickstart", overrides)
        return config.train_minutes, config.max_steps, config.num_train_epochs

    assert length() == (1, 130, 3)
    assert length(max_steps=10) == (None, 10, 3)
    assert length(num_train_epochs=2) == (None, -1, 2)
    assert length(train_minutes=2) == (2, -1, 3)
    assert length(train_minutes=2, max_steps=10) == (2, 10, 3)
    assert read_config(MLMConfig(train_minutes=1), {"max_steps": 5}).train_minutes is None


def test_train_minutes_is_refused_if_it_cannot_apply(tokenizer, rows, values):
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"train_minutes: received .*Accepted: a number above 0"):
            MLMConfig(train_minutes=minutes)
    trainer = MLMTrainer(
        make_bert(tokenizer), args=MLMConfig(train_minutes=1), train_dataset=rows, processing_class=tokenizer
    )
    with pytest.raises(ValueError, match=r"train_minutes: received 1\. Accepted here: None"):
        trainer.train()
    assert "loss" in evaluate("adapt", train_minutes=1, **values).metrics["evaluation"]
    with pytest.raises(ValueError, match="train_minutes: received 1"):
        reference("tutorial", train_minutes=1, model=values["model"], corpus=values["corpus"])


def test_timing_changes_no_weight_of_the_model(tokenizer, values, monkeypatch):
    seen = []

    def time_and_look(model, *rest, **more):
        seen.append(model)
        return time_steps(model, *rest, **more)

    monkeypatch.setattr(train_module, "time_steps", time_and_look)
    monkeypatch.setattr(train_module, "_train", lambda run, *_, **__: run)
    run = train("adapt", train_minutes=0.001, max_steps=2, **values)
    fresh = make_bert(tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), fresh.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[0].parameters(), fresh.parameters(), strict=True))
