"""The model that a finished run started from, as it was before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from transformers import set_seed

from ..data.tokenizer import load_or_train_tokenizer
from ..model.loading import load_model, starts_random


class StartingModel(NamedTuple):
    """A model, its tokenizer, its name, and whether it is one of random weights."""

    model: Any
    tokenizer: Any
    name: str
    random: bool


def starting_model(run: Path, tokenizer: Any) -> StartingModel:
    """Load the model that a run's recipe.yaml names.

    A trained model has its own tokenizer, without words that the run added (`add_tokens`). Random weights have that of
    the run, `tokenizer`, and are the same as at the beginning of the run.

    Raises: ValueError or OSError if it cannot be loaded any more.
    """
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    name = recipe["model"]
    start = {"from_scratch": recipe.get("from_scratch", False), "revision": recipe.get("model_revision")}
    random = starts_random(name, start["from_scratch"])
    if not random:
        elsewhere = {each: recipe.get(each) for each in ("tokenizer", "tokenizer_revision")}
        tokenizer = load_or_train_tokenizer(name, None, revision=start["revision"], **elsewhere)
        start["tokenizer_name"] = elsewhere["tokenizer"]
    set_seed(recipe.get("seed", 42))
    model = load_model(name, tokenizer, extend_positions=recipe.get("extend_positions"), **start)
    return StartingModel(model, tokenizer, name, random)
