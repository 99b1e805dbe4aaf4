"""The examples in the docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mlm_recipes

MODULES = [name for _, name, _ in pkgutil.walk_packages(mlm_recipes.__path__, "mlm_recipes.") if "__main__" not in name]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", mlm_recipes.__all__)
def test_every_public_name_is_documented(name):
    documentation = inspect.getdoc(getattr(mlm_recipes, name))
    assert documentation
    assert documentation.splitlines()[0].endswith((".", ":")), "the first line is one sentence"
