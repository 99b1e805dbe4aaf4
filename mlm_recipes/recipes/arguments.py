"""Builds an MLMConfig from a recipe's YAML and the flags of a command line."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from transformers import HfArgumentParser

from ..masking.policy_table import POLICIES
from ..sources.model_folder import built_in_models
from ..sources.names import did_you_mean
from ..training.config import MLMConfig, field_names, refuse_unknown
from .value_types import fits, parser_options

PACKAGE = Path(__file__).parent.parent

#: Names in the recipe.yaml of a run with transformers 5.23 or newer, and what older versions call them.
_RENAMED = {
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}

#: What makes `mlm_probability` the share of the first step only.
_SCHEDULE = {"mlm_probability_schedule", "mlm_probability_end", "mlm_probability_boundaries"}

#: Values that describe one particular corpus, model, tokenizer, length, measure, policy or schedule.
_DESCRIBED_BY = {
    "corpus": ("corpus_config", "corpus_revision", "corpus_sha256", "corpus_split", "validation_corpus"),
    "tokenizer": ("tokenizer_revision",),
    "model": ("model_revision", "tokenizer", "tokenizer_revision", "trust_remote_code"),
    "extend_positions": ("max_length",),
    "metric_for_best_model": ("greater_is_better",),
    "masking_policy": ("mask_ngram",),
    "mlm_probability_schedule": ("mlm_probability_end", "mlm_probability_boundaries"),
}

#: Values that turn something off, and the recipe's values that would then be refused, since nothing uses them.
_TURNED_OFF: dict[str, tuple[set[str], dict[str, Any]]] = {
    "peft": ({"none"}, {"lora_merge": None}),
    "add_tokens": ({"none"}, {"train_new_tokens_first": None}),
    "masking_policy": ({name for name, policy in POLICIES.items() if not policy.words}, {"word_segmenter": "none"}),
}

#: Values that an object is often given for, which only MLMTrainer takes, and the name of one.
_OBJECTS = {"model": "mini", "tokenizer": "google-bert/bert-base-uncased"}


def bundled_recipes() -> dict[str, Path]:
    """Return the library's recipes, by name.

    >>> list(bundled_recipes())
    ['adapt', 'adapt-gpu', 'adapt-lora', 'dapt', 'pretrain', 'pretrain-mini', 'quickstart', 'tapt', 'tutorial']
    """
    folder = PACKAGE / "bundled/recipes"  # where setup.cfg puts recipes/ in a wheel
    if not folder.exists():
        folder = PACKAGE.parent / "recipes"  # a checkout
    found = {path.stem: path for path in folder.glob("*.yaml")}
    return {name: found[name] for name in sorted(found)}


def read_config(recipe: str | Path | MLMConfig | None = None, overrides: Mapping[str, Any] | None = None) -> MLMConfig:
    """Build the config of a run from the recipe's values and `overrides`.

    Args:
        recipe: a YAML file, a run folder (its recipe.yaml), the name of a bundled recipe, or a config. By default
            `quickstart` if the model is a built-in one, otherwise `adapt`; with `peft="lora"`, `adapt-lora`.
        overrides: values by name; a string is read as on the command line. `num_train_epochs`, `max_steps` and
            `train_minutes` each replace the recipe's values for the two others as well. A `corpus` is measured on
            a part of its own, or on the given `validation_corpus`, not on the recipe's. `mlm_probability` alone is the
            share of every step, whatever schedule the recipe has. `add_tokens="none"` adds none of the recipe's words.

    Raises: ValueError for an unknown name (with the nearest known one) or a value of the wrong type;
    FileNotFoundError for a missing recipe.

    >>> read_config("quickstart", {"learning_rate": "1e-4"}).learning_rate
    0.0001
    >>> read_config("quickstart").mlm_probability_schedule
    'linear'
    >>> read_config("quickstart", {"mlm_probability": 0.3}).mlm_probability_schedule
    'constant'
    >>> read_config("quickstart", {"learning_rat": 1e-4})
    Traceback (most recent call last):
    ...
    mlm_recipes.training.config.UnknownNameError: learning_rat: no such value. Did you mean 'learning_rate'? \
`mlm-recipes train --help` lists them.
    """
    given = dict(overrides or {})
    refuse_unknown(given)
    # An override of the run's length replaces the recipe's length even if the recipe sets it by a different value.
    if "num_train_epochs" in given and "max_steps" not in given:
        given["max_steps"] = -1
    if given.keys() & {"num_train_epochs", "max_steps"} and "train_minutes" not in given:
        given["train_minutes"] = None
    if given.get("train_minutes") is not None and "max_steps" not in given:
        given["max_steps"] = -1
    if "mlm_probability" in given and not given.keys() & _SCHEDULE:
        given["mlm_probability_schedule"] = "constant"  # one number was given: the share of every step
    for name, (without, unused) in _TURNED_OFF.items():
        value = given.get(name)
        if isinstance(value, list) and len(value) == 1:  # a value of several words, from the command line
            value = value[0]
        if isinstance(value, str) and value in without:
            given = unused | given
    for name, its in _DESCRIBED_BY.items():
        # The recipe's values describe its own corpus, model, length, measure, policy or schedule, not the given one.
        if name in given:
            given = dict.fromkeys(its) | given
    if isinstance(recipe, MLMConfig):
        return dataclasses.replace(recipe, **_convert(given))
    if recipe is None:
        recipe = default_recipe(given)
    path = recipe_path(recipe)
    values = _in_installed_names(_read_yaml(path), field_names())
    refuse_unknown(values, f"{path}: ")
    if values.get("trust_remote_code") is not None:
        raise ValueError(
            f"{path}: trust_remote_code: received {values['trust_remote_code']!r}. Accepted: no value in a recipe, "
            "since only the user who runs a recipe may allow a model's code. Remove it, and pass --trust_remote_code "
            "NAME if you trust that model."
        )
    return MLMConfig(**_convert(values | given))


def trained_model(folder: str | Path) -> dict[str, Any]:
    """Return the values that make a run's recipe begin with the model in a folder, whose tokenizer is there too.

    >>> trained_model("runs/dna")["tokenizer_type"]  # no other one is trained
    'wordpiece'
    """
    default = MLMConfig.__dataclass_fields__["tokenizer_type"].default
    return {"model": str(folder), "model_revision": None, "from_scratch": False, "tokenizer_type": default}


def default_recipe(overrides: Mapping[str, Any]) -> str:
    """Return the name of the recipe that is used if none is named.

    >>> default_recipe({}), default_recipe({"model": "google-bert/bert-base-uncased"})
    ('quickstart', 'adapt')
    >>> default_recipe({"peft": "lora"})  # whose learning rate is that of an adapter
    'adapt-lora'
    """
    if overrides.get("peft") == "lora":
        return "adapt-lora"
    return "quickstart" if overrides.get("model", "mini") in built_in_models() else "adapt"


def recipe_path(recipe: str | Path) -> Path:
    """Return the file of a recipe: `recipe` is a path, a run folder with a recipe.yaml, or a bundled recipe's name.

    Raises: FileNotFoundError if there is none.
    """
    path = Path(recipe).expanduser()
    if path.is_file():
        return path
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    bundled = bundled_recipes()
    if str(recipe) in bundled:
        return bundled[str(recipe)]
    # With an installed wheel, there is no recipes/ folder in the working directory; the file's name identifies it.
    if path.parent == Path("recipes") and path.suffix == ".yaml" and path.stem in bundled:
        return bundled[path.stem]
    refuse_value_name(str(recipe))
    raise FileNotFoundError(
        f"recipe: there is no recipe {str(recipe)!r}.{did_you_mean(str(recipe), bundled)} Accepted: a YAML file, a run "
        f"folder, or one of {', '.join(bundled)}. Check the path for a typo; a corpus is named with --corpus, "
        "a model with --model."
    )


def refuse_value_name(recipe: str) -> None:
    """Raise ValueError if the recipe is a value's name, whose dashes are missing."""
    if recipe.replace("-", "_") in field_names() and not Path(recipe).exists():
        raise ValueError(
            f"recipe: received {recipe!r}, which is a value's name. Accepted: a recipe first, then --name value. Write "
            f"--{recipe} in front of its value."
        )


def _in_installed_names(values: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's values, with the old name of each whose new name the installed transformers does not know.

    >>> _in_installed_names({"activation_checkpointing": True}, ["gradient_checkpointing"])
    {'gradient_checkpointing': True}
    """
    found = dict(values)
    for new, old in _RENAMED.items():
        if new in found and new not in known:
            found[old] = found.pop(new)
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(
            f"recipe: {path}{line}: not YAML ({getattr(error, 'problem', error)}). Accepted: one `name: value` per "
            "line. See recipes/quickstart.yaml."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"recipe: {path} contains {type(values).__name__}, not values. Accepted: one `name: value` per line, as in "
            "recipes/quickstart.yaml. If it is the text to train on, name it with --corpus."
        )
    return values


#: The messages of argparse and transformers about a value, and the accepted values to report instead.
_COMPLAINTS = {
    r"invalid float value: (?P<received>.+)": "a number",
    r"invalid int value: (?P<received>.+)": "a whole number",
    r"invalid choice: (?P<received>.+) \(choose from (?P<choices>.+)\)": "",
    r"Truthy value expected: got (?P<received>.+) but expected one of .*": "true or false",
    r"expected (?:one|at least one) argument": "a value after the flag",
    r"invalid [A-Z][a-z]\w+ value: (?P<received>.+)": "an object, which only Python can pass",
    r"invalid JSON value: '(?P<received>.+)'(?P<why> \(.+\))?": "JSON, such as '{\"key\": 1}'",
}


class _Parser(HfArgumentParser):
    def add_argument(self, *flags: Any, **options: Any) -> Any:
        # transformers' parser calls this for each field.
        name = flags[0].removeprefix("--")
        return super().add_argument(*flags, **options | (parser_options(name) if name in field_names() else {}))

    def error(self, message: str) -> Any:
        flag = re.fullmatch(r"argument --(?P<name>\w+)(?:/--[\w-]+)*: (?P<complaint>.*)", message)
        for pattern, accepted in _COMPLAINTS.items():
            if flag and (found := re.fullmatch(pattern, flag["complaint"])):
                given = found.groupdict()
                name, received = flag["name"], given.get("received", "nothing").strip("'")
                accepted = accepted or given["choices"].replace("'", "")
                default: Any = MLMConfig.__dataclass_fields__[name].default
                example = f" Such as --{name} {default}." if type(default) in (int, float) and default > 0 else ""
                raise ValueError(f"{name}: received {received!r}. Accepted: {accepted}.{example}")
        raise ValueError(f"{message}. `mlm-recipes train --help` describes every value.")


def parse_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Return only the values that command-line arguments set, since a default must not override the recipe.

    Raises: ValueError for an unknown flag (with the nearest known one) or a value of the wrong type.

    >>> parse_arguments(["--corpus", "notes.txt", "--static_masks"])
    {'corpus': 'notes.txt', 'static_masks': True}
    """
    parser = _Parser(cast(Any, MLMConfig), allow_abbrev=False)
    unset = object()
    given, unknown = parser.parse_known_args(list(arguments), argparse.Namespace(**dict.fromkeys(field_names(), unset)))
    if unknown:
        name = unknown[0].split("=")[0]
        if name.startswith("-"):
            refuse_unknown([name.lstrip("-").replace("-", "_")], on_command_line=True)
        raise ValueError(
            f"{name}: received without a flag. Accepted: the recipe first, then --name value, as in mlm-recipes train "
            "recipes/adapt.yaml --corpus notes.txt. Put it first, or write --NAME in front of it."
        )
    return {name: value for name, value in vars(given).items() if value is not unset}


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Return values as the words of a command line, for a command that is shown; None is left out.

    >>> as_flags({"from_scratch": True, "add_tokens": ["logos", "nous"], "mix": {"general": 0.1}, "tokenizer": None})
    ['--from_scratch', 'true', '--add_tokens', 'logos', 'nous', '--mix', 'general=0.1']
    """
    words: list[str] = []
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            value = [f"{key}={each}" for key, each in value.items()]
        each = value if isinstance(value, list | tuple) else [str(value).lower() if isinstance(value, bool) else value]
        words += [f"--{name}", *map(str, each)]
    return words


def _convert(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values converted to their fields' types: YAML reads `1e-5` as a string, and a path may be given.

    A value that already has its field's type, such as one from the command line, is unchanged; any other plain value is
    parsed like one on the command line.
    """
    fields = {item.name: item for item in dataclasses.fields(MLMConfig)}
    found = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in values.items()}
    for name, value in found.items():
        plain = isinstance(value, str | int | float)
        if not plain and not fits(value, name) and not (value is None and fields[name].default is None):
            received = repr(value) if isinstance(value, list | tuple | dict | None) else f"a {type(value).__name__}"
            step = " Pass its folder or hub id, or give the object to MLMTrainer." if name in _OBJECTS else ""
            example = fields[name].default or _OBJECTS.get(name)
            raise ValueError(
                f"{name}: received {received}. Accepted: a value such as {example!r}.{step} `mlm-recipes train "
                "--help` describes it."
            )
    written = [
        f"--{name}={value}"
        for name, value in found.items()
        if isinstance(value, str | int | float) and not fits(value, name)
    ]
    return found | parse_arguments(written)
