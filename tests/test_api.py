from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlm_recipes

PACKAGE = Path(mlm_recipes.__file__).parent

# Imports go down only; see CONTRIBUTING.md for the picture.
FLOORS = [
    {"allocator", "checkpoint", "columns", "computed_tokens", "credentials", "dropout", "escaping", "files", "hub"}
    | {"length_groups", "machine_limit", "main_process", "masking", "muon", "near_duplicates", "nonfinite", "not_made"}
    | {"paired_bootstrap", "plots", "positions", "reference_loop", "remote_code", "restarts", "rounding"}
    | {"cross_entropy", "screen", "sentences", "sparse_prediction", "tensor_files", "text_cache", "text_files"}
    | {"windows", "word_cache"},
    {"advice", "collator", "comparison", "download", "encoding", "fill_mask", "gradient_exchange", "hub_upload"}
    | {"padding_free", "progress", "pseudo_perplexity", "resume", "run_facts", "sampler", "sources", "tables"}
    | {"text_measures", "word_pieces"},
    {"config", "dataset", "evaluation", "model", "model_card", "out_of_memory", "page", "paragraphs", "prompts"}
    | {"signals", "tokenizer", "trackers"},
    {"arguments", "corpus", "demo", "fast_paths", "report", "robust_trainer", "streaming", "token_results"},
    {"breakdowns", "compare", "inspection_page", "measured_text", "run_folder", "trainer"},
    {"pace", "prepare", "resumed_run"},
    {"before_after", "inspection", "verification"},
    {"recipes"},
    {"cli"},
]


def imports(module: str) -> set[str]:
    """Return the sibling modules that a module imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found - {"__version__"}


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


def test_every_module_has_its_floor():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set().union(*FLOORS)


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_go_down(floor):
    below = set().union(*FLOORS[:floor])
    for module in FLOORS[floor]:
        assert imports(module) <= below, module


@pytest.mark.slow
def test_a_bare_gpu_machine_can_import_what_needs_torch_alone():
    """masking, collator and model work where datasets and evaluate are not installed."""
    code = (
        "import sys; sys.modules['datasets'] = sys.modules['evaluate'] = None\n"
        "import mlm_recipes.collator, mlm_recipes.dropout, mlm_recipes.model, mlm_recipes.padding_free"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "module",
    [
        "mlm_recipes",
        "mlm_recipes.cli",
        "mlm_recipes.compare",
        "mlm_recipes.near_duplicates",
        "mlm_recipes.report",
        "mlm_recipes.sources",
    ],
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; assert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
