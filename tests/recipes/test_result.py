from __future__ import annotations

import pytest

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.result import plan_of


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
