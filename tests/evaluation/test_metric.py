from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from same_run import loss_bound

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.evaluation.metric import MaskedLM
from mlm_recipes.evaluation.word_frequencies import token_counts, word_frequency_metrics


@pytest.fixture
def evaluated(tiny_bert, tokenizer, rows):
    """The result of `evaluate()` with a given batch size."""

    def evaluate(size):
        args = MLMConfig(per_device_eval_batch_size=size, save_strategy="no")
        found = MLMTrainer(tiny_bert, args=args, eval_dataset=rows, processing_class=tokenizer).evaluate()
        return {name: found[f"eval_{name}"] for name in ("loss", "accuracy", "perplexity", "masked_tokens")}

    return evaluate


def test_the_metric_equals_the_plain_formula(tiny_bert, tokenizer, rows, evaluated):
    found = evaluated(8)
    batch = DataCollatorForMaskedLM(tokenizer).frozen(0)([row | {"example_id": i} for i, row in enumerate(rows)])
    with torch.no_grad():
        logits = tiny_bert.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    masked = batch["labels"] != -100
    expected = torch.nn.functional.cross_entropy(logits[masked], batch["labels"][masked]).item()
    assert found["masked_tokens"] == masked.sum().item()
    assert found["loss"] == pytest.approx(expected, rel=loss_bound(tiny_bert))
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=expected * loss_bound(tiny_bert))
    hits = (logits.argmax(-1) == batch["labels"])[masked].float().mean().item()
    assert found["accuracy"] == pytest.approx(hits)


def test_the_metric_is_independent_of_the_batch_size_and_repeatable(tiny_bert, evaluated):
    one = evaluated(1)
    for size in (2, 3, 8):
        # A perplexity's rounding depends on the loss, not on a share of it.
        assert evaluated(size) == pytest.approx(one, rel=one["loss"] * loss_bound(tiny_bert))
    assert evaluated(1) == one


def test_a_text_without_masked_tokens_is_an_error_and_not_nan():
    with pytest.raises(ValueError, match="none of the tokens is masked"):
        MaskedLM(keep_in_memory=True).compute(nats=[0.0], correct=[0], masked_tokens=[0])


def test_word_frequencies_score_equals_counting():
    found = word_frequency_metrics(
        token_counts([[4, 4, 5], [4]], 8), [torch.tensor([[4, -100], [6, 5]])], special_ids=[0, 1]
    )
    counts = np.array([0, 0, 1, 1, 4, 2, 1, 1])  # one added to each
    expected = -np.mean(np.log(counts[[4, 6, 5]] / counts.sum()))
    assert found["loss"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["masked_tokens"] == 3
