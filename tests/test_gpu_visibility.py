"""The default tests see no GPU, also where there is one; those marked `gpu` do."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from gpu_visibility import SHOWN, VARIABLES, gpu_tests_selected

#: A torch that asks for its devices when it is imported, as transformers has it do, and a test of each kind.
FAKE_TORCH = "import os\nsees_gpu = os.environ.get('CUDA_VISIBLE_DEVICES') != '-1'\n"
CONFTEST = f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n"
TESTS = """
import subprocess, sys
import pytest, torch

CHILD = [sys.executable, "-c", "import torch, sys; sys.exit(torch.sees_gpu)"]

def test_plain():
    assert not torch.sees_gpu
    assert subprocess.run(CHILD).returncode == 0

@pytest.mark.gpu
def test_gpu():
    assert torch.sees_gpu
    assert subprocess.run(CHILD).returncode == 1
"""


def hooks():
    """The part of conftest.py that decides, without what takes seconds to import."""
    kept = []
    for node in ast.parse((ROOT / "tests/conftest.py").read_text("utf-8")).body:
        named = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        imported = {alias.name for alias in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
        if imported & {"hide_gpus", "torch", "pytest", "annotations"} or named & {"hide_gpus", "why_skipped"}:
            kept.append(ast.unparse(node))
    return "\n".join(kept).replace("from __future__ import annotations\n", f"{CONFTEST}")


@pytest.fixture
def project(tmp_path):
    """A folder with this project's conftest.py and settings, two tests, and a torch that has a GPU."""
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    (tmp_path / "conftest.py").write_text(hooks())
    (tmp_path / "test_both.py").write_text(TESTS)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    return tmp_path


def outcomes(project, *arguments, **environment):
    """Run pytest as a person would, and return how many tests passed, were skipped and were left out."""
    clean = {key: value for key, value in os.environ.items() if key not in (*VARIABLES, SHOWN) and "PYTEST" not in key}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_both.py", *arguments], cwd=project,
        env=clean | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    words = last.replace(",", "").strip("= ").split()
    found = dict(zip(words[1::2], words[0::2], strict=False))
    return [int(found.get(word, 0)) for word in ("passed", "skipped", "deselected")]


def test_no_gpu_is_visible_here():
    assert not torch.cuda.is_available()
    assert {os.environ[name] for name in VARIABLES} == {"-1"}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], [1, 0, 1]),
        (["-m", "gpu"], [1, 0, 1]),
        pytest.param(["-m", "gpu or not slow"], [1, 1, 0], marks=pytest.mark.slow),  # the plain test is skipped
        pytest.param(["-m", ""], [1, 1, 0], marks=pytest.mark.slow),  # the test marked gpu is skipped
        pytest.param(["-p", "xdist", "-n", "1", "-m", "gpu"], [1, 0, 0], marks=pytest.mark.slow),
        pytest.param(["-p", "xdist", "-n", "1"], [1, 0, 0], marks=pytest.mark.slow),
    ],
    ids=["by default", "gpu", "both", "all", "gpu in a worker", "in a worker"],
)
def test_a_gpu_is_visible_to_the_tests_marked_gpu_alone(project, arguments, found):
    assert outcomes(project, *arguments) == found


@pytest.mark.slow
def test_the_options_of_the_environment_count(project):
    assert outcomes(project, PYTEST_ADDOPTS="-m gpu") == [1, 0, 1]


def test_gpus_are_hidden_before_anything_is_imported_that_may_look_for_one():
    names = []
    for node in ast.parse((ROOT / "tests/conftest.py").read_text("utf-8")).body:
        if isinstance(node, ast.Expr) and ast.unparse(node) == "hide_gpus()":
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "gpu_visibility"}
            return
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    raise AssertionError("tests/conftest.py does not call hide_gpus()")


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        (["-m", "gpu"], True),
        (["-q", "-mgpu and slow", "tests"], True),
        (["-m", "not slow and not gpu"], False),
        (["-m", "gpu", "-m", "slow"], False),
        (["-k", "gpu"], False),
        ([], False),
    ],
)
def test_the_expression_that_selects(arguments, selected):
    assert gpu_tests_selected(arguments) is selected
