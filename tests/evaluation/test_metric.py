from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from same_run import assert_close, loss_bound

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.evaluation.metric import MaskedLM
from mlm_recipes.evaluation.passes import example_sums, masked_lm_metrics
from mlm_recipes.evaluation.word_frequencies import token_counts, word_frequency_metrics


@pytest.fixture
def frozen(tokenizer):
    return DataCollatorForMaskedLM(tokenizer).frozen(seed=0)


@pytest.fixture
def numbered(rows):
    return [row | {"example_id": i} for i, row in enumerate(rows)]


def batches(rows, collate, size):
    return [collate(rows[i : i + size]) for i in range(0, len(rows), size)]


def test_the_metric_is_the_plain_formula(tiny_bert, frozen, numbered):
    batch = frozen(numbered)
    with torch.no_grad():
        logits = tiny_bert.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    masked = batch["labels"] != -100
    expected = torch.nn.functional.cross_entropy(logits[masked], batch["labels"][masked]).item()
    found = masked_lm_metrics(tiny_bert, [batch])
    assert found["masked_tokens"] == masked.sum().item()
    assert found["loss"] == pytest.approx(expected, rel=loss_bound(tiny_bert))
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=expected * loss_bound(tiny_bert))
    hits = (logits.argmax(-1) == batch["labels"])[masked].float().mean().item()
    assert found["accuracy"] == pytest.approx(hits)


def test_the_batch_size_does_not_matter_and_repeats_are_equal(tiny_bert, frozen, numbered):
    one = masked_lm_metrics(tiny_bert, batches(numbered, frozen, 1))
    for size in (2, 3, 8):
        assert masked_lm_metrics(tiny_bert, batches(numbered, frozen, size)) == pytest.approx(
            one,
            rel=one["loss"] * loss_bound(tiny_bert),  # a perplexity rounds by the loss, not by a share of it
        )
    assert masked_lm_metrics(tiny_bert, batches(numbered, frozen, 1)) == one


def test_sums_are_per_example(tiny_bert, frozen, numbered):
    together = example_sums(tiny_bert.eval(), frozen(numbered))
    assert together.shape == (8, 3)
    assert together.dtype == torch.float32  # MPS has no float64
    for i, row in enumerate(numbered):
        assert_close(example_sums(tiny_bert, frozen([row]))[0], together[i], loss_bound(tiny_bert))


def test_the_models_mode_is_left_as_it_was(tiny_bert, frozen, numbered):
    for mode in (True, False):
        tiny_bert.train(mode)
        masked_lm_metrics(tiny_bert, [frozen(numbered)])
        assert tiny_bert.training is mode


def test_nothing_masked_is_an_error_and_not_nan():
    with pytest.raises(ValueError, match="none of the held-out tokens is masked"):
        MaskedLM(keep_in_memory=True).compute(nats=[0.0], correct=[0], masked_tokens=[0])


def test_word_frequencies_score_what_counting_gives():
    found = word_frequency_metrics(
        token_counts([[4, 4, 5], [4]], 8), [torch.tensor([[4, -100], [6, 5]])], special_ids=[0, 1]
    )
    counts = np.array([0, 0, 1, 1, 4, 2, 1, 1])  # one added to each
    expected = -np.mean(np.log(counts[[4, 6, 5]] / counts.sum()))
    assert found["loss"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["masked_tokens"] == 3
