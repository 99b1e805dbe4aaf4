"""The loop by hand and MLMTrainer are the same mathematics."""

from __future__ import annotations

import functools

import pytest
import torch
from conftest import make_bert
from same_run import PROPORTIONAL_STEPS, assert_same_weights, flat_weights, loss_bound
from transformers import default_data_collator

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.recipes.reference_loop import ParagraphDataset, encode, mask, train_loop


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_reference_and_trainer_end_with_the_same_weights(tokenizer, corpus, loss_on, monkeypatch):
    """Same static masks, order, weights, and no dropout: equal but for rounding after twelve steps, with decay."""
    torch.manual_seed(0)
    encodings = mask(encode(corpus["train"]["text"][:48], tokenizer, max_length=32), tokenizer)
    if loss_on == "masked":
        encodings["labels"][encodings["input_ids"] != tokenizer.mask_token_id] = -100
    data_set = ParagraphDataset(encodings)

    by_hand = make_bert(tokenizer)
    rate, epsilon = PROPORTIONAL_STEPS["learning_rate"], PROPORTIONAL_STEPS["adam_epsilon"]
    with monkeypatch.context() as patched:  # the loop has AdamW's own epsilon
        patched.setattr(torch.optim, "AdamW", functools.partial(torch.optim.AdamW, eps=epsilon))
        losses = train_loop(by_hand, data_set, epochs=2, batch_size=8, learning_rate=rate, shuffle=False, show=False)

    trained = make_bert(tokenizer)
    config = MLMConfig(
        num_train_epochs=2, per_device_train_batch_size=8, **PROPORTIONAL_STEPS, weight_decay=0.01,
        decay_bias_and_norm=True, lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1,
        train_sampling_strategy="sequential", save_strategy="no",
    )  # fmt: skip
    trainer = MLMTrainer(
        trained, args=config, train_dataset=data_set, data_collator=default_data_collator, processing_class=tokenizer
    )
    trainer.train()

    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    begun = make_bert(tokenizer)
    assert logged == pytest.approx(losses, rel=loss_bound(begun, steps=12))
    assert_same_weights(flat_weights(trained), flat_weights(by_hand), begun, steps=12)
