"""A run whose precision its model cannot compute is refused before the first step."""

from __future__ import annotations

import pytest
import torch
from architectures import SIZE
from conftest import make_bert
from small_run import NUMBERED
from transformers import AutoConfig, AutoModelForMaskedLM

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.model.half_precision import why_not_half
from mlm_recipes.training.speed.precision import refuse_failing_half

KINDS = {
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "xmod": {"default_language": "en_XX"},
}


def make(kind, tokenizer):
    values = SIZE | KINDS[kind] | {"vocab_size": len(tokenizer), "pad_token_id": 0, "max_position_embeddings": 40}
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **values))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_fails_in_bf16_is_refused_and_trains_without(tokenizer, kind):
    def run(bf16):
        args = MLMConfig(use_cpu=True, bf16=bf16, max_steps=1, save_strategy="no")
        trainer = MLMTrainer(make(kind, tokenizer), args, train_dataset=NUMBERED, processing_class=tokenizer)
        return trainer.train().global_step

    with pytest.raises(ValueError, match=r"^bf16: \w+ForMaskedLM fails in it on this device.*MLMConfig\(bf16=False\)"):
        run(bf16=True)
    assert run(bf16=False) == 1


def test_others_are_not_refused(tokenizer):
    refuse_failing_half(make_bert(tokenizer), MLMConfig(use_cpu=True, bf16=True), tokenizer)


def test_what_fails_in_float32_too_is_not_due_to_bf16(tokenizer):
    model = make_bert(tokenizer)
    model.bert.embeddings.word_embeddings.forward = lambda ids: ids.no_such_attribute
    assert why_not_half(model, torch.bfloat16, tokenizer) is None
