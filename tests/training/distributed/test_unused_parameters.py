"""Parameters that masked-language modelling does not use: DDP neither waits nor searches for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from architectures import SIZE, make
from conftest import CHECKPOINTING, make_bert
from launched import run_together
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights
from small_run import NUMBERED
from transformers import AutoConfig, AutoModelForMaskedLM, EsmConfig, EsmForMaskedLM, set_seed

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.training.distributed.processes import leave_process_group
from mlm_recipes.training.distributed.unused_parameters import UnusedParameters, unused_parameters

CONTACTS = ["esm.contact_head.regression.weight", "esm.contact_head.regression.bias"]
STEPS = 3


def make_esm(tokenizer):
    set_seed(0)
    ids = {"vocab_size": len(tokenizer), "mask_token_id": tokenizer.mask_token_id, "pad_token_id": 0}
    ids |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return EsmForMaskedLM(EsmConfig(position_embedding_type="rotary", token_dropout=True, **ids, **SIZE))


def run(folder=None, **changes):
    """Train ESM on nine rows, in batches of eight over all processes: of two, one has no row in the second step."""
    tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=1000)
    rows = [row | {"input_ids": [token % 100 + 3 for token in row["input_ids"]]} for row in [*NUMBERED, NUMBERED[0]]]
    batch = 8 // int(os.environ.get("WORLD_SIZE", "1"))
    args = MLMConfig(
        use_cpu=True, max_steps=STEPS, per_device_train_batch_size=batch, save_strategy="no", output_dir="run",
        mlm_probability=0.4, disable_tqdm=True, **PROPORTIONAL_STEPS, **{CHECKPOINTING: True}, **changes,
    )  # fmt: skip
    trainer = MLMTrainer(make_esm(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)
    before = {name: trainer.model.get_parameter(name).clone() for name in CONTACTS}
    trainer.train()
    assert all(torch.equal(trainer.model.get_parameter(name), before[name]) for name in CONTACTS)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    groups = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    return (logged, flat_weights(trainer.model)), getattr(trainer.model_wrapped, "find_unused_parameters", None), groups


@pytest.mark.parametrize(
    ("architecture", "unused"),
    [
        ("bert", []),
        ("modernbert", []),
        ("big_bird", ["bert.pooler.weight", "bert.pooler.bias"]),
        ("squeezebert", ["transformer.pooler.dense.weight", "transformer.pooler.dense.bias"]),
        ("esm", CONTACTS),
    ],
)
def test_what_gets_no_gradient(architecture, unused):
    values = {"pad_token_id": 1, "mask_token_id": 4, "embedding_size": 32} if architecture != "bert" else {}
    values |= {"q_groups": 2, "k_groups": 2, "v_groups": 2, "intermediate_groups": 2, "output_groups": 2}
    if architecture in ("bert", "modernbert"):
        model = make(architecture)
    else:
        set_seed(0)
        config = AutoConfig.for_model(architecture, vocab_size=120, max_position_embeddings=32, **SIZE, **values)
        model = AutoModelForMaskedLM.from_config(config)
    assert unused_parameters(model) == unused
    assert all(weight.grad is None for weight in model.parameters())


def test_layers_that_are_skipped_at_random_are_searched_for(tokenizer):
    model = make_bert(tokenizer)
    assert not UnusedParameters(model, tokenizer, None).search
    assert UnusedParameters(model, tokenizer, True).search
    model.config.layerdrop = 0.1
    assert unused_parameters(model) is None
    assert UnusedParameters(model, tokenizer, None).search


def test_each_name_of_a_tied_parameter_is_ignored():
    """LUKE predicts entities by their embeddings, which have a name in each of the two modules."""
    sizes = {"entity_vocab_size": 10, "entity_emb_size": 16, "pad_token_id": 1}
    luke = AutoModelForMaskedLM.from_config(AutoConfig.for_model("luke", vocab_size=120, **SIZE, **sizes))
    UnusedParameters(luke, None, None)
    ignored = luke._ddp_params_and_buffers_to_ignore
    assert {"luke.entity_embeddings.entity_embeddings.weight", "entity_predictions.decoder.weight"} <= set(ignored)


def test_gradients_of_before_stay(tokenizer):
    model = make_bert(tokenizer)
    weight = model.bert.embeddings.LayerNorm.weight
    weight.grad = torch.ones_like(weight)
    assert unused_parameters(model, tokenizer) == []
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert model.bert.embeddings.LayerNorm.bias.grad is None


def test_an_ignored_parameter_that_is_used_later_ends_the_run(tokenizer):
    """Its gradient would differ between processes, and so would the weights."""
    esm = make_esm(tokenizer)
    unused = UnusedParameters(esm, tokenizer, None)
    args, state = SimpleNamespace(ddp_find_unused_parameters=None), SimpleNamespace(global_step=4)
    unused.on_pre_optimizer_step(args, state, None)
    esm.esm.contact_head.regression.bias.grad = torch.ones(1)
    with pytest.raises(RuntimeError, match=r"regression\.bias got a gradient in step 5 and none when it was"):
        unused.on_pre_optimizer_step(args, state, None)


@pytest.mark.slow
def test_two_processes_with_checkpointing_are_the_run_of_one(tmp_path):
    done = run_together(2, __file__, tmp_path / "found.pt")
    assert "unused parameters" not in done.stderr
    found, searched, groups = torch.load(tmp_path / "found.pt", weights_only=True)
    alone, _, own_groups = run()
    assert searched is False
    assert groups == own_groups
    tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=1000)
    assert_same_run(found, alone, make_esm(tokenizer), STEPS)


if __name__ == "__main__":
    results = run()
    if torch.distributed.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]))
    leave_process_group()
