"""What the launcher asks for counts as much as what the config says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.distributed.launcher import asked_sharding, sharding


def accelerator(kind=DistributedType.FSDP):
    return SimpleNamespace(distributed_type=kind, device=torch.device("cpu"))


def config(**values):
    return SimpleNamespace(**({"fsdp": None, "deepspeed": None} | values))


def test_both_can_ask_to_split_the_model(monkeypatch):
    assert asked_sharding(config()) is None
    assert asked_sharding(config(fsdp=True)) == "FSDP"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert asked_sharding(config()) == "FSDP"
    with pytest.raises(ValueError, match="freeze: received 'body' with FSDP"):
        MLMConfig(freeze="body", use_cpu=True)


@pytest.mark.parametrize("by_launcher", [True, False])
def test_fsdp_that_does_not_happen_is_refused(monkeypatch, by_launcher):
    """accelerate turns it into plain processes on a CPU."""
    assert sharding(accelerator(DistributedType.MULTI_CPU), config()) is None
    if by_launcher:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    asked = config(fsdp=None if by_launcher else True)
    received = "--use_fsdp of `accelerate launch`" if by_launcher else "True"
    with pytest.raises(ValueError, match=f"fsdp: received {received}, on CPU devices. Accepted: FSDP in several"):
        sharding(accelerator(DistributedType.MULTI_CPU), asked)
    assert sharding(accelerator(), asked) == "FSDP"


def test_a_trainer_in_one_process_refuses_fsdp(monkeypatch, tiny_bert, tokenizer, rows):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="fsdp: received --use_fsdp of `accelerate launch`, in one process"):
        MLMTrainer(tiny_bert, args=MLMConfig(use_cpu=True), train_dataset=rows, processing_class=tokenizer)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    with pytest.raises(ValueError, match="fsdp: received True, in one process"):
        MLMTrainer(tiny_bert, args=MLMConfig(use_cpu=True, fsdp=True), train_dataset=rows, processing_class=tokenizer)


def test_the_launchers_precision_is_the_runs_or_is_refused(monkeypatch, caplog, tiny_bert, tokenizer, rows):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert MLMConfig(bf16=False, use_cpu=True).bf16 is True
    assert "bf16 is on, although the config says false: the launcher asks for it." in caplog.text
    with pytest.raises(ValueError, match="fp16: received true, but the launcher asks for bf16"):
        MLMConfig(fp16=True, use_cpu=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match=r"launcher: received --mixed_precision fp8\. Accepted: no, bf16 or fp16"):
        MLMConfig(use_cpu=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="bf16: received true, but the launcher asks for fp16"):
        MLMConfig(bf16=True, use_cpu=True)
    args = MLMConfig(use_cpu=True)
    assert (args.fp16, args.bf16) == (True, False)
    with pytest.raises(ValueError, match=r"fp16: received true on a CPU\. Accepted there: bf16 or float32"):
        MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=tokenizer)


def test_other_values_of_the_launcher(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert MLMConfig(use_cpu=True).to_recipe()["gradient_accumulation_steps"] == 4
    with pytest.raises(ValueError, match="gradient_accumulation_steps: received 2, but the launcher asks for 4"):
        MLMConfig(use_cpu=True, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match=r"global_batch_size: received 64, but the launcher asks for .* 4\. Accepted"):
        MLMConfig(use_cpu=True, global_batch_size=64)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert MLMConfig().use_cpu is True
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "1")
    MLMConfig()
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    with pytest.raises(ValueError, match="launcher: received PARALLELISM_CONFIG_CP_SIZE=2, which is context parallel"):
        MLMConfig()
