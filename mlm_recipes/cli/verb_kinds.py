"""The two kinds of verbs: those that take the values of a recipe, and those whose few arguments argparse knows."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RecipeVerb:
    """A verb that takes a recipe's values: some 130, which training/config.py defines.

    what: its line in `mlm-recipes --help`.
    usage: the beginning of its own --help; {RECIPE} stands for what a recipe can be.
    run: gets the words after the verb, and returns the exit code.
    """

    what: str
    usage: str
    run: Callable[[list[str]], int]


@dataclass(frozen=True)
class PlainVerb:
    """A verb that argparse parses.

    what: its line in `mlm-recipes --help`.
    run: gets the parsed arguments, and returns the exit code, or nothing if that is 0.
    add_arguments: gets the verb's own parser.
    """

    what: str
    run: Callable[[argparse.Namespace], int | None]
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
