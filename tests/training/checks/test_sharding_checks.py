"""What is asked of FSDP and would be ignored is refused, and DeepSpeed with what to use instead."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlm_recipes import MLMConfig, cli
from mlm_recipes.training.checks.sharding_checks import check_plugin


def plugin(**changes):
    as_it_is = {
        "fsdp_version": 2, "cpu_offload": None, "activation_checkpointing": False, "ignored_modules": None,
        "transformer_cls_names_to_wrap": None, "min_num_params": 0,
    }  # fmt: skip
    return SimpleNamespace(**as_it_is | changes)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"optim": "adafactor"}, "^optim: received 'adafactor' with FSDP. Accepted: adamw_torch,"),
        ({"fp16": True}, "^fp16: received True with FSDP. Accepted: bf16,"),
    ],
)
def test_a_value_that_does_not_go_with_fsdp_is_refused(values, says):
    MLMConfig(use_cpu=True, **values)
    with pytest.raises(ValueError, match=says):
        MLMConfig(use_cpu=True, fsdp=True, **values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fsdp_version": 1}, "^fsdp_config: received version 1. Accepted: 2,"),
        ({"cpu_offload": True}, "^fsdp_config: received cpu_offload true"),
        ({"activation_checkpointing": True}, "received activation_checkpointing true.*--gradient_checkpointing true"),
        ({"ignored_modules": "cls.*"}, "received ignored_modules 'cls"),
        (
            {"min_num_params": 5},
            "received min_num_params 5. Accepted: no value, or the layers of this model: BertLayer",
        ),
        ({"transformer_cls_names_to_wrap": ["BertEmbeddings"]}, r"received layers \['BertEmbeddings'\]"),
    ],
)
def test_what_the_sharding_would_ignore_is_refused(values, says):
    check_plugin(plugin(transformer_cls_names_to_wrap=["BertLayer"]), {"BertLayer"})
    with pytest.raises(ValueError, match=says):
        check_plugin(plugin(**values), {"BertLayer"})


def test_replicated_shards_are_refused(monkeypatch):
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "2")
    MLMConfig(use_cpu=True)
    with pytest.raises(ValueError, match="launcher: received PARALLELISM_CONFIG_DP_REPLICATE_SIZE=2 with FSDP"):
        MLMConfig(use_cpu=True, fsdp=True)


def test_deepspeed_is_refused_in_one_line_that_names_fsdp(capsys, monkeypatch):
    with pytest.raises(ValueError, match=r"^deepspeed: received \{'zero_optimization.*pass --fsdp true instead of"):
        MLMConfig(use_cpu=True, deepspeed={"zero_optimization": {"stage": 2}})
    assert cli.main(["train", "adapt", "--deepspeed", "ds.json"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: deepspeed: received 'ds.json'. Accepted: no value. ")
    assert len(said.splitlines()) == 1
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match=r"^deepspeed: received --use_deepspeed of `accelerate launch`. Accepted: no"):
        MLMConfig(use_cpu=True)
