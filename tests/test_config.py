from __future__ import annotations

import dataclasses
import os

import pytest
import yaml
from transformers import TrainingArguments

from mlm_recipes import MLMConfig
from mlm_recipes.config import COMMON, PLACE, bundled_recipes, field_names, own_fields, parse_arguments, read_config


def test_it_is_transformers_arguments_and_no_name_is_taken_twice():
    assert issubclass(MLMConfig, TrainingArguments)
    assert set(own_fields()).isdisjoint(field.name for field in dataclasses.fields(TrainingArguments))
    assert all(field.metadata["help"] for field in own_fields().values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mlm_probability": 0}, "mlm_probability: received 0"),
        ({"mask_replace_prob": 0.95, "random_replace_prob": 0.1}, "together at most 1"),
        ({"padding": "none"}, "padding: received 'none'"),
        ({"loss_on": "none"}, "loss_on: received 'none'"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: received 0"),
        ({"evaluation_seed": -1}, "evaluation_seed: received -1"),
        ({"remove_unused_columns": True}, "remove_unused_columns: received True"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: received 0.1"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: received True. Accepted: False: a smaller batch"),
        ({"average_tokens_across_devices": False}, "average_tokens_across_devices: received False. Accepted: True"),
        ({"dataloader_in_order": False}, "dataloader_in_order: received False. Accepted: True"),
        ({"ignore_data_skip": True}, "ignore_data_skip: received True"),
        ({"restore_callback_states_from_checkpoint": True}, "restore_callback_states_from_checkpoint: received True"),
        ({"loss_on": "all"}, "loss_on: received 'all' with padding 'longest'"),
        ({"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy: received 'batch_rebalance'"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config: received split_batches: true"),
    ],
)
def test_a_value_out_of_range_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**changes)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_is_valid(name):
    config = read_config(name)
    values = yaml.safe_load(bundled_recipes()[name].read_text("utf-8"))
    for key, value in values.items():
        found = getattr(config, key)
        assert str(getattr(found, "value", found)) == str(value) or float(found) == float(value), key


def test_overrides_win_over_the_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rate: 1e-5\nnum_train_epochs: 3\nseed: 7\n")
    config = read_config("mine.yaml", {"num_train_epochs": 5})
    assert (config.learning_rate, config.num_train_epochs, config.seed) == (1e-5, 5, 7)


def test_epochs_asked_for_replace_a_recipes_steps():
    assert read_config("quickstart").max_steps == 90
    config = read_config("quickstart", {"num_train_epochs": 1})
    assert (config.max_steps, config.num_train_epochs) == (-1, 1)
    config = read_config("quickstart", {"num_train_epochs": 1, "max_steps": 7})
    assert config.max_steps == 7


@pytest.mark.parametrize(("typed", "meant"), sorted(COMMON.items()))
def test_what_people_type_is_understood_well_enough_to_help(typed, meant):
    assert meant in field_names()
    with pytest.raises(ValueError, match=f"{typed}: no such value. Did you mean '{meant}'"):
        parse_arguments([f"--{typed}", "1"])


def test_a_config_is_a_recipe_too():
    config = MLMConfig(learning_rate=1e-3, seed=9)
    assert read_config(config) == config
    assert read_config(config) is not config  # a run writes its folder into its own copy
    changed = read_config(config, {"learning_rate": "2e-3"})
    assert (changed.learning_rate, changed.seed, config.learning_rate) == (2e-3, 9, 1e-3)


def test_the_model_decides_which_recipe_is_the_default():
    assert read_config(None).model == "mini"
    assert read_config(None).max_steps == 90
    config = read_config(None, {"model": "google-bert/bert-base-uncased"})
    assert (config.learning_rate, config.num_train_epochs, config.max_steps) == (1e-5, 2, -1)


def test_recipes_are_found_by_name_by_path_and_in_a_run_folder(tmp_path):
    by_name = read_config("adapt")
    assert (
        read_config("recipes/adapt.yaml").learning_rate == by_name.learning_rate
    )  # no such file here: the bundled one
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("learning_rate: 0.25\n")
    assert read_config("run").learning_rate == 0.25


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("learning_rat: 1\n", "mine.yaml: learning_rat: no such value. Did you mean 'learning_rate'"),
        ("learning_rate: fast\n", "invalid float value: 'fast'"),
        ("learning_rate: [\n", "mine.yaml, line 2: not YAML"),
        ("just words\n", "mine.yaml holds str.*name it with --corpus"),
        ("mlm_probability: [0.15]\n", r"mlm_probability: received \[0.15\]"),
        ("max_steps: 1.5\n", "invalid int value: '1.5'"),
        ("model: null\n", "model: received None"),
        ("seed: {a: 1}\n", "seed: received"),
        ("", "mine.yaml holds NoneType"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path, content, says):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=says):
        read_config("mine.yaml")


def test_yaml_cannot_run_code(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: !!python/object/apply:os.system ['touch canary']\n")
    with pytest.raises(ValueError, match="not YAML"):
        read_config("mine.yaml")
    assert not (tmp_path / "canary").exists()


def test_a_missing_recipe_lists_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"'quickstar'. Did you mean 'quickstart'\?.*adapt, pretrain"):
        read_config("quickstar")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--learning_rat", "1"], "learning_rat: no such value. Did you mean 'learning_rate'"),
        (["--learning-rat=1"], "learning_rat: no such value"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--learning_rate"], "expected one argument"),
        (["stray"], "stray: received without a flag. Accepted: the recipe first"),
        (["--learn", "1"], "learn: no such value"),  # no abbreviations: a later field could change what they mean
    ],
)
def test_a_bad_argument_is_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        parse_arguments(arguments)


def test_arguments_give_only_what_they_name():
    given = parse_arguments(["--learning-rate", "1e-4", "--static_masks", "--use_cpu", "false", "--report_to", "none"])
    assert given == {"learning_rate": 1e-4, "static_masks": True, "use_cpu": False, "report_to": "none"}


def test_a_runs_recipe_repeats_it(tmp_path):
    config = read_config("tutorial", {"corpus": "notes.txt", "seed": 5, "warmup_steps": 0.25, "eval_strategy": "epoch"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config.to_recipe()))
    again = read_config("recipe.yaml")
    for name in field_names():
        if name not in PLACE:
            assert getattr(again, name) == getattr(config, name), name
    assert list(config.to_recipe())[:2] == ["corpus", "text_column"]  # this library's own values come first
    assert PLACE.isdisjoint(config.to_recipe())


def test_masking_names_the_collators_arguments(tokenizer):
    from mlm_recipes import DataCollatorForMaskedLM

    config = MLMConfig(mlm_probability=0.3, static_masks=True, seed=4)
    collator = DataCollatorForMaskedLM(tokenizer, **config.masking())
    assert (collator.mlm_probability, collator.static_masks, collator.seed) == (0.3, True, 4)


def test_bf16_is_on_where_the_hardware_has_it_and_nothing_else_is_asked_for(monkeypatch):
    for fast in (True, False):
        monkeypatch.setattr("mlm_recipes.config.has_fast_bf16", lambda use_cpu, fast=fast: fast)
        assert MLMConfig().to_recipe()["bf16"] is fast
        assert MLMConfig(bf16=not fast).bf16 is not fast
        assert MLMConfig(fp16=True).bf16 is False
        assert read_config("quickstart", {"bf16": "false"}).bf16 is False
        assert read_config("tutorial").bf16 is False


def test_the_default_optimizer_is_fused():
    assert MLMConfig().optim == "adamw_torch_fused"


@pytest.mark.parametrize(
    ("launcher", "given", "found"), [("bf16", {}, True), ("no", {}, False), ("no", {"bf16": True}, True)]
)
def test_the_launchers_precision_is_a_value_of_the_run(monkeypatch, launcher, given, found):
    """accelerate would use it whatever the config says; recipe.yaml and the checkpoints then say it too."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert MLMConfig(**given).to_recipe()["bf16"] is found


@pytest.mark.parametrize("packing", [False, True])
def test_the_compiler_is_told_of_changing_shapes_but_where_rows_are_packed(monkeypatch, packing):
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", "")  # so that it is as it was when the test ends
    monkeypatch.delenv("ACCELERATE_DYNAMO_USE_DYNAMIC")
    MLMConfig(torch_compile=True, packing=packing, use_cpu=True)
    assert ("ACCELERATE_DYNAMO_USE_DYNAMIC" in os.environ) is not packing
