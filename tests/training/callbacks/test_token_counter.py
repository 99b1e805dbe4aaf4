from __future__ import annotations

import pytest

from mlm_recipes import MLMConfig, MLMTrainer


@pytest.mark.parametrize("padding_free", [True, False])
def test_all_tokens_of_an_epoch_are_counted_with_padding_separate(tiny_bert, tokenizer, rows, padding_free):
    args = MLMConfig(
        num_train_epochs=2, per_device_train_batch_size=3, padding_free=padding_free, use_cpu=True,
        save_strategy="no", eval_strategy="steps", eval_steps=1, output_dir="out",
    )  # fmt: skip
    trainer = MLMTrainer(tiny_bert, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.train()
    real, padding = trainer.token_counter.counts().tolist()
    assert real == 2 * sum(len(row["input_ids"]) for row in rows)  # and evaluation is not training
    assert (padding > 0) is not padding_free
