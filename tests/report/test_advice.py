"""What is recommended for a text."""

from __future__ import annotations

import pytest

from mlm_recipes.report import advice


@pytest.mark.parametrize(
    ("built_in", "random", "words", "pieces", "rows", "recipe", "epochs"),
    [
        (True, False, 40_000, 1.1, 500, "quickstart", None),
        (True, False, 2_000_000, 1.1, 30_000, "quickstart", 1),
        (False, False, 40_000, 1.1, 500, "adapt", None),
        (False, False, 20_000_000, 1.1, 300_000, "adapt", None),
        (False, False, 20_000_000, 2.1, 300_000, "pretrain", None),
        (True, True, 40_000, 1.1, 500, "quickstart", None),
        (True, True, 20_000_000, 1.1, 300_000, "pretrain", None),
    ],
)
def test_the_recommended_recipe(built_in, random, words, pieces, rows, recipe, epochs):
    facts = {
        "model": {"name": "model", "random_weights": random},
        "corpus": {"words": words},
        "rows": {"train": rows},
        "words": {"pieces_per_word": {"ratio": pieces}},
        "unknown": {"ratio": 0.0},
    }
    found = advice.advised_recipe(facts, built_in)
    assert (found["recipe"], found.get("num_train_epochs")) == (recipe, epochs)
