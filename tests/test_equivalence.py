"""The loop by hand and MLMTrainer are the same mathematics."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from transformers import default_data_collator

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.reference_loop import ParagraphDataset, encode, mask, train_loop


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_reference_and_trainer_end_with_the_same_weights(tokenizer, corpus, loss_on):
    """Same static masks, order, weights, and no dropout: equal to 1e-6 after twelve steps of AdamW with decay."""
    torch.manual_seed(0)
    encodings = mask(encode(corpus["train"]["text"][:48], tokenizer, max_length=32), tokenizer)
    if loss_on == "masked":
        encodings["labels"][encodings["input_ids"] != tokenizer.mask_token_id] = -100
    data_set = ParagraphDataset(encodings)

    by_hand = make_bert(tokenizer)
    losses = train_loop(by_hand, data_set, epochs=2, batch_size=8, learning_rate=1e-3, shuffle=False, show=False)

    trained = make_bert(tokenizer)
    config = MLMConfig(
        num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, weight_decay=0.01,
        decay_bias_and_norm=True, lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1,
        train_sampling_strategy="sequential", save_strategy="no",
    )  # fmt: skip
    trainer = MLMTrainer(
        trained, args=config, train_dataset=data_set, data_collator=default_data_collator, processing_class=tokenizer
    )
    trainer.train()

    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-5)
    for (name, a), b in zip(by_hand.named_parameters(), trained.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-6, name
    untouched = make_bert(tokenizer)
    moved = max((a - b).abs().max() for a, b in zip(trained.parameters(), untouched.parameters(), strict=True))
    assert moved > 1e-3  # there was something to agree about
