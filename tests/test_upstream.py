"""Names that upstream may change in any release: the table in docs/upstream.md agrees with what is installed."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import ROOT
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

import mlm_recipes

PACKAGE = Path(mlm_recipes.__file__).parent
UPSTREAM = ("accelerate", "datasets", "evaluate", "huggingface_hub", "tokenizers", "torch", "tqdm", "transformers")

# Modules whose names are documented; `import` from any other of theirs belongs into the table.
DOCUMENTED = {
    *UPSTREAM,
    *("accelerate.utils", "datasets.exceptions", "huggingface_hub.constants", "huggingface_hub.errors"),
    *("huggingface_hub.hf_api", "torch.autograd.function", "torch.distributed", "torch.nn.functional"),
    *("torch.distributed.device_mesh", "torch.distributed.fsdp", "torch.distributed.tensor"),
    *("torch.nn.parallel", "torch.optim.lr_scheduler", "torch.utils.data", "tqdm.auto", "transformers.utils"),
}

# Classes that are made to be filled in: their methods are the documented way.
TO_FILL_IN = (TrainerCallback, ExportableState, torch.autograd.Function, torch.nn.Module, torch.optim.Optimizer)

GETTERS = ("getattr", "hasattr", "setattr")

# Of Python's named tuples.
PYTHONS = {"_exit", "_asdict", "_replace"}


class Row(NamedTuple):
    """A row of the table: what it is, its first parameters if it is to be called, and the modules that use it."""

    path: str
    parameters: list[str] | None
    modules: list[str]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def table() -> list[Row]:
    page = (ROOT / "docs/upstream.md").read_text("utf-8")
    rows = []
    for line in page.splitlines():
        if match := re.fullmatch(r"\| `([\w.]+)(?:\(([^)]*)\))?` \| (.*?) \| .+ \|", line):
            path, parameters, modules = match.groups()
            listed = None if parameters is None else [each for each in parameters.split(", ") if each]
            rows.append(Row(path, listed, re.findall(r"`([\w/]+)`", modules)))
    assert len(rows) == page.count("\n| `"), "a row of the table cannot be read"
    return rows


ROWS = table()


def find(path: str) -> tuple[object, object]:
    """Return what holds the last name of a path, and what that name is there; LookupError if it is not."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            holder = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        try:
            for part in parts[length:-1]:
                holder = getattr(holder, part)
            return holder, getattr(holder, parts[-1])
        except AttributeError:
            if inspect.isclass(holder) and set_by(holder, parts[-1]):
                return holder, None
            raise LookupError(path) from None
    raise LookupError(path)


def set_by(cls: type, name: str) -> bool:
    """Tell whether a class, or one that it comes from, declares an attribute of its objects or gives it to them."""
    for each in cls.__mro__:
        if name in vars(each).get("__annotations__", {}):
            return True
        if each.__module__.partition(".")[0] in UPSTREAM and re.search(rf"self\.{name}\b[^=\n(]*=[^=]", source(each)):
            return True
    return False


@functools.cache
def source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # written in C++
        return ""


@functools.cache
def own_attributes(cls: type) -> set[str]:
    """Return the names that a class's own source reads or sets of `self`."""
    return set(re.findall(r"self\.(\w+)", source(cls)))


def parameters(thing: object) -> list[inspect.Parameter]:
    """Return what is to be passed, of a class to its constructor, `self` or the class itself included."""
    if inspect.isclass(thing):
        thing = thing.__new__ if issubclass(thing, tuple) else thing.__init__
    return list(inspect.signature(thing).parameters.values())


def change(row: Row) -> str | None:
    """Return in one sentence what upstream has changed, or None."""
    package = row.path.partition(".")[0]
    where = f"used in {', '.join(row.modules)}; see the table in docs/upstream.md"
    what = f"{package} {importlib.metadata.version(package)}: {row.path}"
    try:
        _, thing = find(row.path)
    except LookupError:
        return f"{what} is no longer there ({where})."
    if row.parameters is None:
        return None
    there = parameters(thing)
    positional = [each for each in row.parameters if each != "*"]
    if "*" in row.parameters:
        star = row.parameters.index("*")
        by_keyword = {each.name for each in there if each.kind is each.KEYWORD_ONLY}
        first = [each.name for each in there[:star]]
        fits = first == positional[:star] and {*positional[star:]} <= by_keyword
    else:
        fits = [each.name for each in there[: len(positional)]] == positional
    rest = [each for each in there if each.name not in positional]
    needed = [
        each.name
        for each in rest
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if not fits or (needed and row.name != "_maybe_log_save_evaluate"):  # ours passes on whatever else it is given
        return f"{what} takes ({', '.join(each.name for each in there)}), not ({', '.join(row.parameters)}) ({where})."
    return None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_upstream_has_it_as_we_use_it(row):
    assert not (said := change(row)), said


def test_no_row_is_there_twice_or_for_nothing():
    assert len({row.path for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.modules, row.path
        for module in row.modules:
            assert re.search(rf"\b{row.name}\b", (PACKAGE / f"{module}.py").read_text("utf-8")), (
                f"docs/upstream.md says that {module} uses {row.path}, and it does not"
            )


TREES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def is_set_of_self(node: ast.AST) -> bool:
    """Tell whether an expression is `self.name` on the left of an assignment."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def is_operator(node: ast.Attribute) -> bool:
    """Tell whether an expression is `torch.ops.library.name`."""
    of = node.value
    return (
        isinstance(of, ast.Attribute) and isinstance(of.value, ast.Attribute) and ast.unparse(of.value) == "torch.ops"
    )


def names_of_ours() -> set[str]:
    """Return what the package itself defines, or gives to its own objects."""
    found: set[str] = set()
    for node in (node for tree in TREES.values() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif is_set_of_self(node):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


OURS = names_of_ours()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PYTHONS


def undocumented_names(tree: ast.Module, ours: set[str]) -> set[str]:
    """Return which names of a module are private ones of upstream, or imported from where nothing is documented."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if is_operator(node) or (is_private(node.attr) and node.attr not in ours):
                found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GETTERS:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in ours:
                found.add(name.value)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in UPSTREAM:
            documented = node.module in DOCUMENTED
            found |= {each.name for each in node.names if is_private(each.name) or not documented}
    return found


@pytest.mark.parametrize("module", TREES)
def test_what_is_used_is_in_the_table(module):
    listed = {part for row in ROWS if module in row.modules for part in row.path.split(".")}
    for name in sorted(undocumented_names(TREES[module], OURS)):
        assert name in listed, f"{module} uses upstream's {name}, which the table in docs/upstream.md lacks"


def test_a_private_name_is_found_wherever_it_is_used():
    code = """
from torch.nn.modules.batchnorm import _BatchNorm
from datasets.naming import camelcase_to_snakecase
from torch.utils.data import DataLoader
super()._inner_training_loop(1)
getattr(model, "_tied_weights_keys", None)
torch.ops.aten.something(self._own, pair._replace(a=1), __name__)
"""
    found = undocumented_names(ast.parse(code), {"_own"})
    assert found == {
        "_BatchNorm", "camelcase_to_snakecase", "_inner_training_loop", "_tied_weights_keys", "something",
    }  # fmt: skip


def replaced() -> list[tuple[type, type, str]]:
    """Return each method of ours in the place of one of upstream's: our class, the class it is taken from, its name."""
    found = []
    for path in sorted(TREES):
        if path.endswith(("__init__", "__main__")):
            continue
        module = f"mlm_recipes.{path.replace('/', '.')}"
        for cls in vars(importlib.import_module(module)).values():
            if not inspect.isclass(cls) or cls.__module__ != module:
                continue
            for name, method in vars(cls).items():
                if (name.startswith("__") and name.endswith("__")) or not callable(method):
                    continue
                above = [
                    base for base in cls.__mro__[1:]
                    if name in vars(base) and base.__module__.partition(".")[0] in UPSTREAM
                ]  # fmt: skip
                if above and not any(issubclass(cls, each) and hasattr(each, name) for each in TO_FILL_IN):
                    found.append((cls, above[0], name))
    return found


REPLACED = replaced()


@pytest.mark.parametrize(("ours", "theirs", "name"), REPLACED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_replaced_is_in_the_table_and_takes_what_upstream_passes(ours, theirs, name):
    module = ours.__module__.removeprefix("mlm_recipes.").replace(".", "/")
    package = theirs.__module__.partition(".")[0]
    what = f"{package} {importlib.metadata.version(package)}: {theirs.__name__}.{name}"
    rows = [row for row in ROWS if row.name == name and module in row.modules and issubclass(find(row.path)[0], theirs)]
    assert rows, f"{what} is replaced by {module}'s {ours.__name__}.{name}, and the table in docs/upstream.md lacks it"
    taken, passed = (inspect.signature(vars(cls)[name]).parameters.values() for cls in (ours, theirs))
    kinds = {each.kind for each in taken}
    if any(each.kind is each.VAR_KEYWORD for each in (*taken, *passed)):
        return  # whatever else is passed
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    missing = [each.name for each in passed if each.name not in {mine.name for mine in taken}]
    assert not missing, f"{what} takes {', '.join(missing)}, which {module}'s {ours.__name__}.{name} does not"


@pytest.mark.parametrize("cls", sorted({ours for ours, _, _ in REPLACED}, key=lambda cls: cls.__name__))
def test_no_attribute_of_ours_has_a_name_that_upstream_has_taken(cls):
    own = {node.attr for node in ast.walk(ast.parse(inspect.getsource(cls))) if is_set_of_self(node)}
    bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in UPSTREAM]
    module = cls.__module__.removeprefix("mlm_recipes.").replace(".", "/")
    meant = {row.name for row in ROWS if module in row.modules}
    for name in sorted(set(filter(is_private, own)) - meant):
        taken = [base for base in bases if name in vars(base) or name in own_attributes(base)]
        assert not taken, f"{taken[0].__module__}.{taken[0].__name__} has a {name} too, which {cls.__name__} overwrites"


def test_what_has_changed_is_said_in_one_sentence():
    trainer = "transformers.Trainer"
    version = importlib.metadata.version("transformers")
    assert change(Row(f"{trainer}._gone", None, ["trainer"])) == (
        f"transformers {version}: transformers.Trainer._gone is no longer there (used in trainer; see the table in "
        "docs/upstream.md)."
    )
    assert "takes (self, logs, start_time), not (self, records)" in change(
        Row(f"{trainer}.log", ["self", "records"], [])
    )
    assert "takes (self, logs, start_time), not (self)" in change(Row(f"{trainer}.log", ["self"], []))
    assert "not (local_path, *, raw)" in change(
        Row("huggingface_hub.repocard.metadata_load", ["local_path", "*", "raw"], [])
    )
    assert change(Row("torch.optim.lr_scheduler.LRScheduler._last_rate", None, []))
