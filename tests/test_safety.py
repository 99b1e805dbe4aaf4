"""No call that can run what it reads stands in the code; what ruff's flake8-bandit rules do not find is found here."""

from __future__ import annotations

import ast
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from mlm_recipes import cli, load_corpus

#: Modules that unpickle what they read.
_PICKLES = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "_pickle", "shelve"}
#: Calls that are never right here, by the end of their name.
_NEVER = {
    "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "extractall", "unpack_archive", "Markup", "pandas.read_pickle", "read_pickle",
    "tempfile.mktemp",
}  # fmt: skip
#: The same, but not as methods: model.eval() and re.compile() are others.
_BUILT_IN = {"compile", "eval", "exec"}
#: Arguments that are never right, and those without which a call is wrong.
_NEVER_WITH = {
    "allow_pickle": True,
    "trust_remote_code": True,
    "shell": True,
    "weights_only": False,
    "autoescape": False,
}
_ONLY_WITH = {"torch.load": "weights_only", "Environment": "autoescape"}


def unsafe(source: str) -> list[str]:
    """Return what is unsafe in a module's source, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in _PICKLES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in _BUILT_IN or any(called == name or called.endswith(f".{name}") for name in _NEVER):
            found.append(f"{node.lineno}: {called}")
        for name, value in given.items():
            if name in _NEVER_WITH and isinstance(value, ast.Constant) and value.value is _NEVER_WITH[name]:
                found.append(f"{node.lineno}: {called}({name}={value.value})")
        for name, needed in _ONLY_WITH.items():
            if (called == name or called.endswith(f".{name}")) and needed not in given:
                found.append(f"{node.lineno}: {called} without {needed}")
    return found


def unsafe_template(source: str) -> list[str]:
    """Return what turns a template's escaping off."""
    return [word for word in ("|safe", "| safe", "autoescape false") if word in source]


UNSAFE = [
    "import pickle",
    "from pickle import loads",
    "import numpy as np, cloudpickle",
    "def f():\n    import dill",
    "from joblib import load",
    "import shelve",
    "torch.load(path)",
    "torch.load(path, map_location='cpu')",
    "torch.load(path, weights_only=False)",
    "np.load(path, allow_pickle=True)",
    "yaml.load(text)",
    "yaml.load(text, Loader=yaml.Loader)",
    "yaml.unsafe_load(text)",
    "yaml.full_load(text)",
    "AutoModel.from_pretrained(name, trust_remote_code=True)",
    "load_dataset(name, trust_remote_code=True)",
    "eval(text)",
    "exec(text)",
    "os.system('ls')",
    "os.popen('ls')",
    "subprocess.run('ls', shell=True)",
    "tarfile.open(path).extractall()",
    "zipfile.ZipFile(path).extractall(folder)",
    "shutil.unpack_archive(path)",
    "Environment(loader=loader)",
    "jinja2.Environment(loader=loader, autoescape=False)",
    "Markup(text)",
    "markupsafe.Markup(text)",
    "pandas.read_pickle(path)",
]
SAFE = """
model.eval()
re.compile("a")
torch.load(path, map_location="meta", weights_only=True)
np.load(path)
yaml.safe_load(text)
Environment(loader=loader, autoescape=select_autoescape())
subprocess.run([sys.executable, "-c", code])
AutoModel.from_pretrained(name, trust_remote_code=trusted)
"""
SOURCES = sorted([*ROOT.glob("mlm_recipes/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
TEMPLATES = sorted(
    path for path in ROOT.glob("mlm_recipes/report/templates/*") if path.suffix in (".html", ".md", ".jinja")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_unsafe_call_stands_in_the_code(path):
    assert unsafe(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_turns_escaping_off(path):
    assert unsafe_template(path.read_text("utf-8")) == []


@pytest.mark.parametrize("source", UNSAFE)
def test_the_check_finds(source):
    assert unsafe(source)


@pytest.mark.parametrize(
    "source", ["{{ x|safe }}", "{{ x | safe }}", "{% autoescape false %}{{ x }}{% endautoescape %}"]
)
def test_the_check_finds_in_a_template(source):
    assert unsafe_template(source)


def test_the_check_leaves_alone_what_is_safe():
    assert unsafe(SAFE) == []
    assert len(SOURCES) > 40
    assert TEMPLATES


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import pickle\n\npickle.loads(b'')\n", "S301"),
        ("import yaml\n\nyaml.load('', yaml.Loader)\n", "S506"),
        ("import subprocess\n\nsubprocess.run('ls', shell=True)\n", "S602"),
        ("exec('1')\n", "S102"),
    ],
)
def test_ruff_is_set_to_find_it_too(source, rule):
    """Through the repository's own settings, as `make lint` calls it."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "json"]
    place = ["--config", str(ROOT / "pyproject.toml"), "--stdin-filename", str(ROOT / "mlm_recipes/new.py"), "-"]
    done = subprocess.run([*command, *place], input=source, capture_output=True, text=True, check=False)
    assert rule in [each["code"] for each in json.loads(done.stdout)], done.stdout + done.stderr


# Archives: nothing is unpacked, so nothing can climb out of its folder.


def a_tar(path: Path, mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name in ("../outside.txt", "/tmp/mlm-recipes-outside.txt", "inside.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"text"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        archive.addfile(link)


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.txt", "text")


@pytest.mark.parametrize(
    "name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "zip.txt", "tar.txt", "tar.txt.gz"]
)
def test_an_archive_is_refused_and_writes_nothing(name, tmp_path, capsys):
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    if "zip" in name:
        a_zip(inner / name)
    elif name == "tar.txt.gz":
        a_tar(inner / "tar", "w")
        (inner / name).write_bytes(gzip.compress((inner / "tar").read_bytes()))
        (inner / "tar").unlink()
    else:
        a_tar(inner / name, {"z": "w:gz", "x": "w:xz"}.get(name[-2], "w") if name != "tar.txt" else "w")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["train", "--corpus", str(inner / name)]) == 2
    assert "Accepted" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/mlm-recipes-outside.txt").exists()


def test_what_is_compressed_is_read_where_it_is(tmp_path):
    """gzip can hold a file's name; it is not used."""
    folder = tmp_path / "deep"
    folder.mkdir()
    text = "".join(f"paragraph number {n} of a text\n" for n in range(40)).encode()
    with (folder / "a.txt.gz").open("wb") as file, gzip.GzipFile("../outside.txt", "wb", fileobj=file) as out:
        out.write(text)
    before = sorted(tmp_path.rglob("*"))
    assert sum(load_corpus(folder / "a.txt.gz").num_rows.values()) == 40
    assert sorted(tmp_path.rglob("*")) == before
