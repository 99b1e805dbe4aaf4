"""From a recipe's YAML and the flags of a command line to an MLMConfig."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from ..sources.model_folder import built_in_models
from ..sources.names import did_you_mean
from ..training.config import MLMConfig, field_names, refuse_unknown

PACKAGE = Path(__file__).parent.parent

#: What is said of one corpus and of no other.
_OF_THE_CORPUS = ("corpus_config", "corpus_revision", "corpus_sha256", "corpus_split")


def bundled_recipes() -> dict[str, Path]:
    """Return the recipes that come with the library, by name.

    >>> sorted(bundled_recipes())
    ['adapt', 'pretrain', 'pretrain-mini', 'quickstart', 'tutorial']
    """
    folder = PACKAGE / "bundled/recipes"  # where setup.cfg puts recipes/ in a wheel
    if not folder.exists():
        folder = PACKAGE.parent / "recipes"  # a checkout
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_config(recipe: str | Path | MLMConfig | None = None, overrides: Mapping[str, Any] | None = None) -> MLMConfig:
    """Build the config of a run: the recipe's values, and then `overrides`.

    Args:
        recipe: a YAML file, a run folder (its recipe.yaml), the name of a bundled recipe, or a config. By default
            `quickstart` where the model is a built-in one, `adapt` where it is not.
        overrides: values by name; a string is read as on the command line. `num_train_epochs`, `max_steps` and
            `train_minutes` each replace what the recipe says in the two others.

    Raises: ValueError for an unknown name (with the nearest known one) or a value of the wrong kind;
    FileNotFoundError for a missing recipe.

    >>> read_config("quickstart", {"learning_rate": "1e-4"}).learning_rate
    0.0001
    >>> read_config("quickstart", {"learning_rat": 1e-4})
    Traceback (most recent call last):
    ...
    ValueError: learning_rat: no such value. Did you mean 'learning_rate'? `mlm-recipes train --help` lists them.
    """
    given = dict(overrides or {})
    refuse_unknown(given)
    # What was asked for just now replaces what the recipe says of the run's length in another way.
    if "num_train_epochs" in given and "max_steps" not in given:
        given["max_steps"] = -1
    if given.keys() & {"num_train_epochs", "max_steps"} and "train_minutes" not in given:
        given["train_minutes"] = None
    if given.get("train_minutes") is not None and "max_steps" not in given:
        given["max_steps"] = -1
    for name, its in {"corpus": _OF_THE_CORPUS, "model": ("model_revision", "trust_remote_code")}.items():
        if name in given:  # what the recipe says of its own is not said of this one
            given = dict.fromkeys(its) | given
    if isinstance(recipe, MLMConfig):
        return dataclasses.replace(recipe, **_convert(given))
    if recipe is None:
        recipe = default_recipe(given)
    path = recipe_path(recipe)
    values = _read_yaml(path)
    refuse_unknown(values, f"{path}: ")
    if values.get("trust_remote_code") is not None:
        raise ValueError(
            f"{path}: trust_remote_code: received {values['trust_remote_code']!r}. Accepted: nothing in a recipe, "
            "which may be another person's: whose code is run is said by who runs it. Take it out, and pass "
            "--trust_remote_code NAME if you trust that model."
        )
    return MLMConfig(**_convert(values | given))


def default_recipe(overrides: Mapping[str, Any]) -> str:
    """Return the name of the recipe that is taken where none is named.

    >>> default_recipe({}), default_recipe({"model": "google-bert/bert-base-uncased"})
    ('quickstart', 'adapt')
    """
    return "quickstart" if overrides.get("model", "mini") in built_in_models() else "adapt"


def recipe_path(recipe: str | Path) -> Path:
    """Return the file of a recipe: a path, the recipe.yaml of a run folder, or that of a bundled recipe's name.

    Raises: FileNotFoundError where there is none.
    """
    path = Path(recipe).expanduser()
    if path.is_file():
        return path
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    bundled = bundled_recipes()
    if str(recipe) in bundled:
        return bundled[str(recipe)]
    # Installed as a wheel there is no recipes/ beside the user; the name of the file is enough to know which one.
    if path.parent == Path("recipes") and path.suffix == ".yaml" and path.stem in bundled:
        return bundled[path.stem]
    raise FileNotFoundError(
        f"recipe: there is no recipe {str(recipe)!r}.{did_you_mean(str(recipe), bundled)} Accepted: a YAML file, a run "
        f"folder, or one of {', '.join(bundled)}. Check the path for a typing error; a corpus is named with --corpus, "
        "a model with --model."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(
            f"recipe: {path}{line}: not YAML ({getattr(error, 'problem', error)}). Accepted: one `name: value` a line. "
            "See recipes/quickstart.yaml."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"recipe: {path} holds {type(values).__name__}, not values. Accepted: one `name: value` a line, as in "
            "recipes/quickstart.yaml. If it is the text to train on, name it with --corpus."
        )
    return values


class _Parser(HfArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(f"{message}. `mlm-recipes train --help` says what is accepted.")


def parse_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the values that command-line arguments give, and no others: a default must not win over the recipe.

    Raises: ValueError for an unknown flag (with the nearest known one) or a value of the wrong kind.

    >>> parse_arguments(["--corpus", "notes.txt", "--static_masks"])
    {'corpus': 'notes.txt', 'static_masks': True}
    """
    parser = _Parser(cast(Any, MLMConfig), allow_abbrev=False)
    unset = object()
    given, unknown = parser.parse_known_args(list(arguments), argparse.Namespace(**dict.fromkeys(field_names(), unset)))
    if unknown:
        name = unknown[0].split("=")[0]
        if name.startswith("-"):
            refuse_unknown([name.lstrip("-").replace("-", "_")])
        raise ValueError(
            f"{name}: received without a flag. Accepted: the recipe first, then --name value: "
            "mlm-recipes train recipes/adapt.yaml --corpus notes.txt. Put it first, or give it its flag."
        )
    return {name: value for name, value in vars(given).items() if value is not unset}


def _convert(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as their fields have them: YAML takes `1e-5` for a string, and a person may give a path.

    A value that has its field's type already, such as one that comes from the command line, is taken as it is; any
    other plain one is read as the command line reads it.
    """
    fields, kinds = {item.name: item for item in dataclasses.fields(MLMConfig)}, get_type_hints(MLMConfig)
    found = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in values.items()}
    for name, value in found.items():
        plain = isinstance(value, str | int | float)
        if not plain and not _fits(value, kinds[name]) and not (value is None and fields[name].default is None):
            raise ValueError(
                f"{name}: received {value!r}. Accepted: a value such as {fields[name].default!r}. "
                "`mlm-recipes train --help` says what it is."
            )
    written = [
        f"--{name}={value}"
        for name, value in found.items()
        if isinstance(value, str | int | float) and not _fits(value, kinds[name])
    ]
    return found | parse_arguments(written)


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value has exactly one of the types of a field, of which none may be an enumeration.

    >>> _fits(3, int), _fits(3, float), _fits(True, int), _fits("runs", str | None), _fits([1], list[int] | None)
    (True, False, False, True, True)
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    plain = [get_origin(each) or each for each in kinds]
    return type(value) in plain and not any(isinstance(each, type) and issubclass(each, Enum) for each in plain)
