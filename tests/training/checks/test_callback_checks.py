"""The callbacks that a caller passes in."""

from __future__ import annotations

import pytest
from small_run import NUMBERED, make_trainer
from transformers import PrinterCallback, TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer, train


class LooksLikeOne:
    def on_step_end(self, args, state, control, **kwargs):
        pass


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([TrainerCallback(), LooksLikeOne()], "received LooksLikeOne at place 2, which is no TrainerCallback"),
        ([LooksLikeOne], "callbacks: received the class LooksLikeOne at place 1"),
        ("PrinterCallback", r"callbacks: received str\. Accepted: a list .* Pass a list, or leave it out\."),
        (TrainerCallback(), r"callbacks: received TrainerCallback\. .* Write it in brackets"),
        (PrinterCallback, r"callbacks: received the class PrinterCallback\. .* Write it in brackets"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_is_read(callbacks, said):
    with pytest.raises(ValueError, match=said):
        train(corpus="there is no such file", callbacks=callbacks)
    with pytest.raises(ValueError, match=said):
        MLMTrainer("there is no such model", args=MLMConfig(output_dir="run"), callbacks=callbacks)


def test_a_class_is_accepted_as_by_transformers(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, callback=PrinterCallback)
    assert any(type(each) is PrinterCallback for each in trainer.callback_handler.callbacks)


def test_a_recipe_says_where_callbacks_go(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("callbacks: [PrinterCallback]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"callbacks: no such value\. .* mlm_recipes\.train\(recipe, callbacks="):
        train(recipe)
