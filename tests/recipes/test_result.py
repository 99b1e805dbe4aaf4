from __future__ import annotations

import pytest

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.result import plan_of
from mlm_recipes.training.batches.token_steps import TokenSteps


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ", 15% of the tokens masked, in "),
        ({"mlm_probability": 0.3}, ", 30% of the tokens masked (15% when it is measured, so the losses are not"),
        (
            {"masking_policy": "whole_word"},
            ", 15% of the tokens masked by whole_word (all pieces of a word, or none; 15% token by token when it is m",
        ),
    ],
)
def test_the_first_screen_says_how_tokens_are_masked(values, said):
    assert said in plan_of(MLMConfig(use_cpu=True, **values))


def test_the_first_screen_says_what_a_step_of_so_many_tokens_really_has():
    config = MLMConfig(use_cpu=True, num_train_epochs=2, tokens_per_batch=4096)
    assert plan_of(config, TokenSteps(steps=7, tokens=3900)).startswith(
        "Training for 2 epochs in batches of about 3,900 tokens (7 steps an epoch), learning rate"
    )
