from __future__ import annotations

import io
import sys

import pytest
from small_run import NUMBERED, make_trainer
from transformers.utils import logging as transformers_logging

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.callbacks import progress


class Clock:
    """A clock that advances half a second per reading."""

    now = 0.0

    def monotonic(self):
        self.now += 0.5
        return self.now


@pytest.fixture
def train(tiny_bert, tokenizer, rows, monkeypatch):
    monkeypatch.setattr(progress, "time", Clock())

    def train(steps, told=False):
        args = MLMConfig(max_steps=steps, per_device_train_batch_size=4, save_strategy="no")
        trainer = MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=tokenizer)
        trainer.progress.told = told
        trainer.train()

    return train


@pytest.mark.slow
def test_the_duration_is_printed_after_a_few_steps(train, capsys):
    train(60)
    shown = capsys.readouterr().out.splitlines()
    (said,) = [line for line in shown if "on this machine" in line]
    assert said.startswith("60 steps take about ")
    assert shown.index(said) <= 3
    assert len(shown) == 21  # and twenty lines of where it stands
    assert shown[-1].startswith("epoch 30/30  step 60/60  loss ")


@pytest.mark.slow
def test_the_duration_is_not_printed_twice_nor_for_three_steps(train, capsys):
    train(60, told=True)
    train(3)
    assert "on this machine" not in capsys.readouterr().out


def test_in_a_terminal_the_duration_is_above_the_bar(train, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    train(10)
    shown = terminal.getvalue()
    assert "10 steps take about " in shown
    assert shown.index("10 steps take about ") < shown.rindex("Epoch 5/5: 100%")
    assert "loss=" in shown


EVALUATES = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}


@pytest.fixture(autouse=True)
def verbosity():
    """A trainer sets it for the whole process (`log_level`), and it decides on the default of `disable_tqdm`."""
    before = transformers_logging.get_verbosity()
    yield
    transformers_logging.set_verbosity(before)


def evaluations(text):
    return [line for line in text.splitlines() if line.startswith("evaluation")]


@pytest.mark.parametrize("quiet", [True, False, None])
def test_each_evaluation_during_training_is_a_line(tokenizer, capsys, quiet):
    trainer = make_trainer(tokenizer, NUMBERED, disable_tqdm=quiet, **EVALUATES)
    trainer.train()
    shown = capsys.readouterr().out
    found = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    for line, entry, step in zip(evaluations(shown), found, (2, 4), strict=True):
        assert line.startswith(f"evaluation: epoch 1/1  step {step}/4  loss {entry['eval_loss']:.3f}  accuracy ")
        assert f"  perplexity {entry['eval_perplexity']:.2f}  (the best so far" in line
    assert ("it/s" in shown) is (quiet is not True)
    trainer.evaluate()
    assert capsys.readouterr().out == ""  # the caller has the numbers


def test_the_best_so_far_is_known_by_its_measure_also_after_a_resume(tokenizer, capsys):
    values = EVALUATES | {"save_strategy": "steps", "save_steps": 2, "metric_for_best_model": "accuracy"}
    scores = iter([0.5, 0.25])
    compute = {"compute_metrics": lambda found: {"accuracy": next(scores)}}
    make_trainer(tokenizer, NUMBERED, **compute, **values).train()
    first, second = evaluations(capsys.readouterr().out)
    assert first.endswith("(the best so far)")
    assert second.endswith("(the best so far: 50.0% after step 2)")
    scores = iter([0.25])
    make_trainer(tokenizer, NUMBERED, **compute, **values).train(resume_from_checkpoint="run/checkpoint-2")
    (again,) = evaluations(capsys.readouterr().out)
    assert again.endswith("(the best so far: 50.0% after step 2)")


def test_each_of_several_sets_and_the_callers_measures_are_shown(tokenizer, capsys):
    make_trainer(
        tokenizer, NUMBERED, eval_rows={"first": NUMBERED[:4], "last": NUMBERED[4:]}, disable_tqdm=True,
        compute_metrics=lambda found: {"f1": 0.12345, "list": [1, 2]}, **EVALUATES,
    ).train()  # fmt: skip
    lines = evaluations(capsys.readouterr().out)
    assert [line.split(":")[0] for line in lines] == ["evaluation of first", "evaluation of last"] * 2
    assert all("  f1 0.1235" in line and "list" not in line for line in lines)


def test_nothing_is_shown_if_that_is_requested(tokenizer, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    make_trainer(tokenizer, NUMBERED, disable_tqdm=True, log_level="error", **EVALUATES).train()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_bar_shows_the_evaluations_loss_below_its_line(tokenizer, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    trainer = make_trainer(tokenizer, NUMBERED, **EVALUATES)
    trainer.train()
    shown = terminal.getvalue()
    assert "evaluation: epoch 1/1  step 2/4  loss " in shown
    last = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry][-1]
    assert f"eval_loss={last:.3f}" in shown.split("\r")[-1]


def test_silence_as_transformers_has_it_is_no_bar_and_no_lines_of_progress(tokenizer, capsys):
    transformers_logging.set_verbosity_error()  # disable_tqdm is then true by default
    make_trainer(tokenizer, NUMBERED, **EVALUATES).train()
    shown = capsys.readouterr().out
    assert "it/s" not in shown
    assert len(evaluations(shown)) == 2
