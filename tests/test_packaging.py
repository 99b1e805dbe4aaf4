"""The wheel holds everything, and trains from another folder."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in files:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source"],
        capture_output=True, check=True,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_it_holds_corpus_recipes_templates_and_every_module(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "mlm_recipes").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert f"mlm_recipes/{path.relative_to(ROOT / 'mlm_recipes').as_posix()}" in names
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert f"mlm_recipes/bundled/recipes/{path.name}" in names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.slow
def test_it_works_from_another_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    where = subprocess.run(
        [sys.executable, "-c", "import mlm_recipes; print(mlm_recipes.__file__)"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert Path(where).is_relative_to(tmp_path / "site")
    # Every kind of file that a run reads from the package: recipe, corpus, model, templates.
    subprocess.run(
        [sys.executable, "-m", "mlm_recipes", "train", "recipes/quickstart.yaml", "--max_steps=1", "--max_length=16",
         "--per_device_train_batch_size=2", "--max_eval_samples=4", "--general_corpus=none"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(Path("runs/meditations/metrics.json").read_text())["corpus"]["paragraphs"] == 540


def test_every_dependency_has_its_reason_and_is_pinned():
    lines = (ROOT / "setup.cfg").read_text("utf-8").splitlines()
    config = configparser.ConfigParser()
    config.read_string("\n".join(lines))
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    extras = config["options.extras_require"]
    wanted = config["options"]["install_requires"] + extras["dev"] + extras["demo"] + extras["docs"]
    names = re.findall(r"^([\w-]+)", wanted, flags=re.MULTILINE)
    assert len(names) >= 12
    for name in names:
        assert re.search(rf"^{name.lower().replace('_', '-')}==", pinned, flags=re.MULTILINE), name
    for number, line in enumerate(lines):
        if re.sub(r"[>=].*", "", line.strip()) in names:
            assert lines[number - 1].startswith("    #"), f"setup.cfg:{number + 1} has no reason above it"
    assert "\ntorch==2.13.0\n" in pinned


def test_the_floors_that_are_tested_are_those_that_are_promised():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    wanted = config["options"]["install_requires"]
    promised = dict(re.findall(r"^([\w-]+)>=([\d.]+)", wanted, flags=re.MULTILINE))
    assert len(promised) == len([line for line in wanted.splitlines() if line and not line.startswith("#")])
    pinned = (ROOT / "constraints-floors.txt").read_text("utf-8")
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", pinned, flags=re.MULTILINE))
    assert tested.keys() == promised.keys()
    for name, version in tested.items():
        assert re.fullmatch(rf"{re.escape(promised[name])}(\.0)*", version), f"{name}: {version} is not its floor"


def test_no_path_of_one_machine_and_no_package_index_is_written_down():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile(r"(/home/|/Users/|[A-Z]:\\\\|index-url|extra-index|://pypi\.|://files\.pythonhosted)")
    for name in files:
        if name != "tests/test_packaging.py" and not name.endswith((".safetensors", ".pt", ".pth", ".png")):
            assert not pattern.search((ROOT / name).read_text("utf-8")), name
