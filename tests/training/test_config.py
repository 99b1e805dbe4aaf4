from __future__ import annotations

import dataclasses
import os

import pytest
import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.training.config import own_fields


def test_the_config_extends_transformers_arguments_without_name_conflicts():
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
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: received 0"),
        ({"do_predict": True}, "do_predict: received True"),
        ({"evaluation_seed": -1}, "evaluation_seed: received -1"),
        ({"remove_unused_columns": True}, "remove_unused_columns: received True"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: received 0.1"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: received True. Accepted: False: a smaller batch"),
        ({"average_tokens_across_devices": False}, "average_tokens_across_devices: received False. Accepted: True"),
        ({"dataloader_in_order": False}, "dataloader_in_order: received False. Accepted: True"),
        ({"ignore_data_skip": True}, "ignore_data_skip: received True"),
        ({"torch_compile": "maybe"}, "torch_compile: received 'maybe'. Accepted: auto"),
        ({"loss_on": "all"}, "loss_on: received 'all' with padding 'longest'"),
        ({"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy: received 'batch_rebalance'"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config: received split_batches: true"),
    ],
)
def test_a_value_out_of_range_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**changes)


def test_masking_returns_the_collators_arguments(tokenizer):
    from mlm_recipes import DataCollatorForMaskedLM

    config = MLMConfig(mlm_probability=0.3, static_masks=True, seed=4)
    collator = DataCollatorForMaskedLM(tokenizer, **config.masking())
    assert (collator.mlm_probability, collator.static_masks, collator.seed) == (0.3, True, 4)


@pytest.mark.parametrize(
    ("flags", "end", "boundaries"),
    [
        (["linear", "--mlm_probability_end", "0.15"], [0.15], None),
        (["step", "--mlm_probability_end", "0.15", "0.05"], [0.15, 0.05], None),
        (["step", "--mlm_probability_end", "0.2", "--mlm_probability_boundaries", "0.9"], [0.2], [0.9]),
    ],
)
def test_a_schedule_of_the_masked_share_in_all_its_forms(flags, end, boundaries, tmp_path):
    """Words, a recipe's YAML with a list or a number, Python, and what a run's recipe.yaml records."""
    kind = flags[0]
    config = read_config("adapt", parse_arguments(["--mlm_probability", "0.4", "--mlm_probability_schedule", *flags]))
    assert (config.mlm_probability_end, config.mlm_probability_boundaries) == (end, boundaries)
    assert config.probability_schedule().shares == (0.4, *end)
    number = end[0] if len(end) == 1 else end
    values = {"mlm_probability": 0.4, "mlm_probability_schedule": kind, "mlm_probability_boundaries": boundaries}
    for given in (end, number, tuple(end)):
        made = MLMConfig(**values, mlm_probability_end=given)
        assert made.mlm_probability_end == end
        assert made.probability_schedule() == config.probability_schedule()
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made.to_recipe()), "utf-8")
        read = read_config(tmp_path / "recipe.yaml")
        assert read.to_recipe() == made.to_recipe()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values | {"mlm_probability_end": number}), "utf-8")
    assert read_config(tmp_path / "mine.yaml").mlm_probability_end == end
    assert MLMConfig().probability_schedule() is None
    # Another schedule on the command line replaces all of the recipe's.
    assert read_config(tmp_path / "recipe.yaml", {"mlm_probability_schedule": "constant"}).mlm_probability_end is None


def test_bf16_is_the_default_on_fast_hardware(monkeypatch):
    for fast in (True, False):
        monkeypatch.setattr("mlm_recipes.training.speed.precision.has_fast_bf16", lambda use_cpu, fast=fast: fast)
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
def test_the_launchers_precision_becomes_the_runs(monkeypatch, launcher, given, found):
    """accelerate would use it in any case; recipe.yaml and the checkpoints record it too."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert MLMConfig(**given).to_recipe()["bf16"] is found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ("auto", None, None)),
        ({"torch_compile": True}, (True, None, None)),
        ({"torch_compile": "false"}, (False, None, None)),
        ({"torch_compile_mode": "max-autotune"}, (True, None, "max-autotune")),
        ({"torch_compile_backend": "aot_eager"}, (True, "aot_eager", None)),
        ({"torch_compile": False, "torch_compile_backend": "aot_eager"}, (False, "aot_eager", None)),
    ],
)
def test_what_torch_compile_means(given, found, monkeypatch):
    config = MLMConfig(**given)
    for each in (config, dataclasses.replace(config), MLMConfig(**config.to_recipe())):
        assert (each.torch_compile, each.torch_compile_backend, each.torch_compile_mode) == found
    assert dataclasses.replace(config, torch_compile=False).torch_compile is False
    # What accelerate's launcher says is the run's, but only where the run says nothing.
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    assert MLMConfig().torch_compile is True
    assert MLMConfig().torch_compile_backend == "eager"
    assert MLMConfig(**given).torch_compile is (found[0] if given else True)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], "auto"),
        (["--torch_compile"], True),
        (["--torch_compile", "auto"], "auto"),
        (["--torch_compile", "false"], False),
        (["--torch-compile=True"], True),
    ],
)
def test_torch_compile_on_a_command_line(flags, found):
    assert read_config("quickstart", parse_arguments(flags)).torch_compile is found
    (config,) = HfArgumentParser(MLMConfig).parse_args_into_dataclasses([*flags, "--use_cpu"])
    assert config.torch_compile is found


@pytest.mark.parametrize(("written", "found"), [("auto", "auto"), ("true", True), ("false", False)])
def test_torch_compile_in_a_recipe(written, found, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"torch_compile: {written}\n", "utf-8")
    assert read_config(tmp_path / "mine.yaml").torch_compile is found
    assert read_config(tmp_path / "mine.yaml", {"torch_compile": True}).torch_compile is True


def test_torch_compile_leaves_the_environment_and_tf32_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("transformers.training_args.enable_tf32", "transformers.training_args.is_torch_tf32_available"):
        monkeypatch.setattr(name, lambda *args: switched.append(args) or True)
    before, switched = dict(os.environ), []
    MLMConfig(torch_compile=True, use_cpu=True)
    assert dict(os.environ) == before
    assert switched == []
    TrainingArguments(output_dir="out", torch_compile=True, use_cpu=True)
    assert (True,) in switched  # as transformers does


def test_on_cuda_workers_prepare_batches_in_memory_that_is_copied_without_waiting(monkeypatch):
    assert (MLMConfig().dataloader_num_workers, MLMConfig().accelerator_config.non_blocking) == (0, False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr(MLMConfig, "_setup_devices", torch.device("cpu"))  # there is no GPU to set up
    found = MLMConfig(bf16=False)
    assert (found.dataloader_num_workers, found.dataloader_persistent_workers) == (2, True)
    assert found.accelerator_config.non_blocking
    assert dataclasses.replace(found).to_dict() == found.to_dict()
    streamed = MLMConfig(bf16=False, streaming=True)
    assert (streamed.dataloader_num_workers, streamed.dataloader_persistent_workers) == (0, False)
    given = MLMConfig(bf16=False, dataloader_num_workers=4, accelerator_config={"even_batches": True})
    assert (given.dataloader_num_workers, given.dataloader_persistent_workers) == (4, False)
    assert not given.accelerator_config.non_blocking
    assert MLMConfig(use_cpu=True).dataloader_num_workers == 0


def test_a_processs_cpu_has_no_number(monkeypatch):
    """accelerate numbers it: torch cannot load a checkpoint's tensors onto "cpu:1"."""
    monkeypatch.setattr(TrainingArguments, "_setup_devices", torch.device("cpu", 1))
    assert MLMConfig(use_cpu=True, output_dir="out").device == torch.device("cpu")
