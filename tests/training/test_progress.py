from __future__ import annotations

import io
import sys

import pytest

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training import progress


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


def test_the_duration_is_printed_after_a_few_steps(train, capsys):
    train(60)
    shown = capsys.readouterr().out.splitlines()
    (said,) = [line for line in shown if "on this machine" in line]
    assert said.startswith("60 steps take about ")
    assert shown.index(said) <= 3
    assert len(shown) == 21  # and twenty lines of where it stands
    assert shown[-1].startswith("epoch 30/30  step 60/60  loss ")


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
