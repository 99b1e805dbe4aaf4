from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlm_recipes

PACKAGE = Path(mlm_recipes.__file__).parent


def test_all_is_the_sorted_public_names():
    assert mlm_recipes.__all__ == sorted(mlm_recipes.__all__)
    for name in mlm_recipes.__all__:
        assert getattr(mlm_recipes, name).__name__ == name
        assert name in dir(mlm_recipes)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mlm_recipes.nothing  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    seen = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(mlm_recipes.__all__) <= seen


@pytest.mark.slow
def test_a_bare_gpu_machine_can_import_what_needs_torch_alone():
    """masking, collator and model work where datasets and evaluate are not installed."""
    code = (
        "import sys; sys.modules['datasets'] = sys.modules['evaluate'] = None\n"
        "import mlm_recipes.masking.collator, mlm_recipes.model.loading, mlm_recipes.model.padding_free"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "module",
    [
        "mlm_recipes",
        "mlm_recipes.cli",
        "mlm_recipes.report.side_by_side",
        "mlm_recipes.data.near_duplicates",
        "mlm_recipes.report.run_report",
        "mlm_recipes.sources.model_folder",
    ],
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; assert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
