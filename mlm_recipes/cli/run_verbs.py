"""The verbs that run a recipe: train, reference, evaluate, verify."""

from __future__ import annotations

import os
from functools import partial

from ..report.printing import say
from ..training.faults import tolerated_failures
from .other_processes import end_with_the_others, several
from .screen import quiet_libraries, shown
from .verb_kinds import RecipeVerb


def _run(verb: str, rest: list[str]) -> int:
    quiet_libraries()
    import mlm_recipes

    from ..recipes.arguments import parse_arguments, refuse_value_name

    recipe = [rest.pop(0)] if rest and not rest[0].startswith("-") else []  # otherwise the function's default
    for name in recipe:
        refuse_value_name(name)
    if several():
        end_with_the_others()
    result = getattr(mlm_recipes, verb)(*recipe, **parse_arguments(rest))
    if os.environ.get("RANK", "0") != "0":
        return 0  # nothing to show; an error code would end the main process, which may still be working
    if not isinstance(result, mlm_recipes.RunResult) or result.output_dir is None:
        print(f"\n{shown(result)}")
        return 1 if verb == "verify" and not result.ok else 0
    lacking = tolerated_failures.NotMade(result.output_dir)
    with lacking.noting("the last screen", f"Its figures are in {result.output_dir / 'metrics.json'}."):
        say(f"\n{shown(result)}")
    return tolerated_failures.EXIT_CODE if lacking.entries or result.not_made else 0


def _verb(name: str, what: str, about: str = "") -> RecipeVerb:
    usage = f"usage: mlm-recipes {name} [RECIPE] [--name value ...]\n\nRECIPE: {{RECIPE}}{about}"
    return RecipeVerb(what, usage, partial(_run, name))


TRAIN = _verb(
    "train",
    "train a model, and measure it before and after",
    "\nWithout RECIPE: quickstart for a built-in model, adapt for any other.",
)
REFERENCE = _verb("reference", "run the tutorial's own loop, in plain torch")
EVALUATE = _verb("evaluate", "measure a model on held-out text")
VERIFY = _verb(
    "verify",
    "check a recipe's numbers: accumulation, masks, evaluation, kill and resume",
    """
Trains a few steps on ten of its paragraphs, which takes about a minute, and prints what it checked: whole
and split batches, padding, masks, order, evaluation, kill and resume. Exit code 1 if a check fails.""",
)
