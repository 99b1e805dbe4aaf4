"""Values of several types: on the command line, in a recipe, from Python, and read back from a run's recipe.yaml."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.recipes.value_types import parser_options, types_of
from mlm_recipes.training.config import field_names

# name, words of the command line, the value in YAML and in Python
VALUES = [
    ("fsdp", [], True),
    ("fsdp", ["true"], True),
    ("fsdp", ["false"], False),
    ("fsdp", ["full_shard"], "full_shard"),
    ("fsdp", ["full_shard auto_wrap"], "full_shard auto_wrap"),
    ("fsdp_config", ['{"min_num_params": 5}'], {"min_num_params": 5}),
    ("report_to", ["tensorboard"], "tensorboard"),
    ("report_to", ["tensorboard", "wandb"], ["tensorboard", "wandb"]),
    ("report_to", ["none"], "none"),
    ("accelerator_config", ['{"even_batches": false}'], {"even_batches": False}),
    ("lr_scheduler_kwargs", ['{"num_cycles": 2}'], {"num_cycles": 2}),
    ("liger_kernel_config", ['{"rope": true}'], {"rope": True}),
    ("optim_target_modules", ["all-linear"], "all-linear"),
    ("optim_target_modules", ["query", "key"], ["query", "key"]),
    ("include_num_input_tokens_seen", ["all"], "all"),
    ("include_num_input_tokens_seen", [], True),
    ("debug", ["underflow_overflow"], "underflow_overflow"),
    ("trackio_static_space_id", ["false"], False),
    ("trackio_static_space_id", ["owner/name"], "owner/name"),
    ("label_names", ["a", "b"], ["a", "b"]),
    ("disable_tqdm", [], True),
    ("disable_tqdm", ["false"], False),
    ("ddp_find_unused_parameters", [], True),
    ("bf16", [], True),
    ("torch_compile", ["true"], True),
]


def config_of(**values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return read_config("adapt", {"use_cpu": True} | values)


@pytest.mark.parametrize(("name", "words", "value"), VALUES)
def test_a_value_is_the_same_wherever_it_is_given_and_read_back(name, words, value):
    typed = getattr(config_of(**parse_arguments([f"--{name}", *words])), name)
    Path("mine.yaml").write_text(yaml.safe_dump({name: value, "use_cpu": True}))
    written = getattr(read_config("mine.yaml"), name)
    config = config_of(**{name: value})
    given = getattr(config, name)
    assert typed == written == given
    Path("recipe.yaml").write_text(yaml.safe_dump(config.to_recipe()))
    assert getattr(read_config("recipe.yaml"), name) == given


def test_fsdp_is_on_or_off_as_it_was_said():
    assert config_of(fsdp=True).fsdp is True
    assert config_of(**parse_arguments(["--fsdp", "--seed", "3"])).fsdp is True
    assert not config_of(**parse_arguments(["--fsdp", "false"])).fsdp
    assert config_of(fsdp="full_shard").to_recipe()["fsdp"] is True
    assert MLMConfig(fsdp=True, use_cpu=True).to_recipe()["fsdp"] is True


@pytest.mark.parametrize("name", [name for name in field_names() if bool in types_of(name)])
def test_every_switch_needs_no_word_after_it(name):
    assert parse_arguments([f"--{name}"]) == {name: True}
    assert parse_arguments([f"--{name}", "false"]) == {name: False}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--deepspeed", '{"a": '], "^deepspeed: received '{\"a\": '. Accepted: JSON, such as"),
        (["--liger_kernel_config", "lorem"], "^liger_kernel_config: received 'lorem'. Accepted: JSON"),
        (["--parallelism_config", "lorem"], "^parallelism_config: received 'lorem'. Accepted: an object, which"),
    ],
)
def test_what_cannot_be_read_is_named(words, says):
    with pytest.raises(ValueError, match=says):
        parse_arguments(words)


def test_values_of_one_type_are_left_to_transformers():
    assert parser_options("seed") == parser_options("corpus") == parser_options("optim") == {}
