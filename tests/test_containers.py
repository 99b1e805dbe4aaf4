"""The Dockerfile and the devcontainer: what they name is there. Building them takes a builder, and minutes."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
DEVCONTAINER = ROOT / ".devcontainer/devcontainer.json"


def instructions():
    """The instructions of the Dockerfile as (name, arguments), continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def stages():
    return [match[1] for _, given in instructions() if (match := re.search(r" AS (\w+)$", given))]


def test_every_instruction_is_one_and_the_last_stage_builds_on_the_first():
    known = {"ARG", "FROM", "RUN", "USER", "WORKDIR", "ENV", "COPY", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert [given.split()[0] for name, given in instructions() if name == "FROM"] == ["${BASE}", *stages()]
    (base,) = [given for name, given in instructions() if name == "ARG" and given.startswith("BASE=")]
    minimum = re.search(r"^python_requires = >=3\.(\d+)$", (ROOT / "setup.cfg").read_text("utf-8"), flags=re.M)[1]
    assert int(re.fullmatch(r"BASE=python:3\.(\d+)-slim", base)[1]) >= int(minimum)


def test_what_is_copied_is_there():
    sources = [word for name, given in instructions() if name == "COPY" for word in given.split()[1:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize("text", [DOCKERFILE, DEVCONTAINER.read_text("utf-8")], ids=["Dockerfile", "devcontainer"])
def test_every_target_of_make_is_one(text):
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("$(VENV)", ".venv")
    targets = set(re.findall(r"^([\w./-]+):", makefile, flags=re.M))
    named = re.findall(r'\bmake"?,?\s+"?([a-z.][\w./-]*)', text.replace("git make", ""))
    assert named
    assert set(named) <= targets


def test_what_pip_is_told_reaches_pip():
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/ready-dev"], cwd=ROOT, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "PIP_OPTIONS": "--no-deps"}, check=True,
    )  # fmt: skip
    assert re.search(r"pip install .*--no-deps --editable '\.\[dev\]'", done.stdout)
    names = [given.split("=")[0] for name, given in instructions() if name == "ARG"]
    assert names == ["BASE", "PIP_OPTIONS"]


def test_nobody_is_root():
    assert "person" in [given for name, given in instructions() if name == "USER"]
    assert json.loads(DEVCONTAINER.read_text("utf-8"))["remoteUser"] == "person"


def test_the_devcontainer_builds_a_stage_that_is_there():
    build = json.loads(DEVCONTAINER.read_text("utf-8"))["build"]
    assert (DEVCONTAINER.parent / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (DEVCONTAINER.parent / build["context"]).resolve() == ROOT
    assert build["target"] in stages()


def test_what_is_not_sent_to_the_builder_is_nothing_of_the_checkout():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]
    assert {".venv", "runs"} <= set(patterns)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        assert not [part for part in PurePosixPath(name).parts for each in patterns if fnmatch.fnmatch(part, each)]
    assert not [pattern for pattern in patterns if fnmatch.fnmatch(Path(".git").name, pattern)]
