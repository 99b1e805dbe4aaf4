"""The phases of `warmup_stable_decay`, and that every schedule of transformers works or says what it lacks."""

from __future__ import annotations

import math

import pytest
import torch
from small_run import NUMBERED, make_trainer, weights

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.training.optimization.optimizers import refuse_unusable
from mlm_recipes.training.optimization.schedules import with_phases

WSD = {"lr_scheduler_type": "warmup_stable_decay", "disable_tqdm": True}


def logged_rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


@pytest.mark.parametrize(
    ("given", "steps", "warmup", "decay"),
    [
        (None, 10, 1, 2),
        ({}, 11, 0, 3),  # a fifth of 11, rounded up
        ({"num_decay_steps": 4}, 10, 1, 4),
        ({"num_decay_steps": 0.25}, 10, 1, 3),
        ({"num_decay_steps": 0.07}, 100, 10, 7),  # 0.07 * 100 is above 7 in floating point
        ({"num_stable_steps": 0.5}, 10, 1, 4),
        ({"num_stable_steps": 9}, 10, 1, 0),
        ({"num_stable_steps": 5, "num_decay_steps": 4}, 10, 1, 4),
        (None, 10, 9, 1),
        (None, 10, 12, 0),
    ],
)
def test_the_steps_of_the_decay(given, steps, warmup, decay):
    assert with_phases(given, steps, warmup) == {"num_decay_steps": decay}


@pytest.mark.parametrize(
    "given",
    [{"num_decay_steps": 10}, {"num_stable_steps": 10}, {"num_stable_steps": 5, "num_decay_steps": 3}],
)
def test_phases_that_do_not_add_up_to_the_run_are_refused(given):
    with pytest.raises(ValueError, match=r"^lr_scheduler_kwargs: received num_.* for a run of 10 steps, 1 of them war"):
        with_phases(given, 10, 1)


@pytest.mark.parametrize("value", ["20%", -1, 1.5, True])
def test_what_is_no_number_of_steps_is_refused(value):
    with pytest.raises(ValueError, match=r"^lr_scheduler_kwargs: received num_decay_steps: .*or a share of them below"):
        with_phases({"num_decay_steps": value}, 10, 1)


def test_the_rates_of_a_run(tokenizer, caplog):
    """10 steps: one of warm-up, six at the full rate, three that decay by 1 - sqrt."""
    kwargs = {"num_decay_steps": 0.3, "decay_type": "1-sqrt"}
    with caplog.at_level("INFO", "mlm_recipes"):
        trainer = make_trainer(
            tokenizer, NUMBERED, max_steps=10, warmup_steps=1, save_strategy="no", lr_scheduler_kwargs=kwargs, **WSD
        )
        trainer.train()
    decay = [1e-3 * (1 - math.sqrt(step / 3)) for step in range(3)]
    assert logged_rates(trainer) == pytest.approx([0.0] + 6 * [1e-3] + decay)
    assert "warmup_stable_decay: 1 steps of warm-up" not in caplog.text
    assert "1 step of warm-up, 6 at the full learning rate, 3 of decay (1-sqrt)." in caplog.text
    assert trainer.args.lr_scheduler_kwargs == kwargs  # the config is the caller's


def test_a_resumed_run_is_the_uninterrupted_one(tokenizer, tmp_path):
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **WSD)
    whole.train()
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", **WSD)
    resumed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-2")
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.slow
def test_a_run_that_is_made_longer_is_the_long_run_from_the_start(tokenizer, tmp_path):
    """What the schedule is for: until the decay begins, a short run and a long one are the same."""
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", max_steps=6, **WSD).train()  # decays after step 4
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "whole", max_steps=10, save_strategy="no", **WSD)
    whole.train()
    resumed = make_trainer(
        tokenizer, NUMBERED, tmp_path / "run", max_steps=10, change_on_resume=["max_steps"], overwrite=True, **WSD
    )
    resumed.train(resume_from_checkpoint=tmp_path / "run/checkpoint-4")
    assert torch.equal(weights(resumed), weights(whole))
    assert logged_rates(resumed) == logged_rates(whole)


SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")


@pytest.mark.parametrize("name", [*SCHEDULES, "inverse_sqrt", "warmup_stable_decay"])
def test_a_schedule_needs_nothing_else(name):
    refuse_unusable(MLMConfig(use_cpu=True, lr_scheduler_type=name))


@pytest.mark.parametrize("name", ["cosine_with_min_lr", "cosine_warmup_with_min_lr"])
def test_a_schedule_that_needs_a_value_names_it(name):
    with pytest.raises(ValueError, match=r'One of min_lr or min_lr_rate should be set.*such as {"min_lr_rate": 0.1}'):
        refuse_unusable(MLMConfig(use_cpu=True, lr_scheduler_type=name))
    refuse_unusable(MLMConfig(use_cpu=True, lr_scheduler_type=name, lr_scheduler_kwargs={"min_lr_rate": 0.1}))


def test_a_decay_that_is_too_long_is_refused_before_anything_is_loaded():
    config = MLMConfig(use_cpu=True, max_steps=5, lr_scheduler_kwargs={"num_decay_steps": 9}, **WSD)
    with pytest.raises(ValueError, match="num_decay_steps 9 for a run of 5 steps, 0 of them warm-up"):
        refuse_unusable(config)


def test_the_command_line_and_a_recipe_are_read_alike(tmp_path):
    typed = parse_arguments(
        ["--lr_scheduler_type", "warmup_stable_decay", "--lr_scheduler_kwargs", '{"num_decay_steps": 0.3}']
    )
    written = tmp_path / "mine.yaml"
    written.write_text("lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 0.3}\n")
    values = [read_config("quickstart", typed), read_config(written)]
    assert [config.lr_scheduler_kwargs for config in values] == 2 * [{"num_decay_steps": 0.3}]
