from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.evaluation import MaskedLM, example_sums, masked_lm_metrics, paired_gain, word_frequency_metrics


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
    assert found["loss"] == pytest.approx(expected, abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    hits = (logits.argmax(-1) == batch["labels"])[masked].float().mean().item()
    assert found["accuracy"] == pytest.approx(hits)


def test_the_batch_size_does_not_matter_and_repeats_are_equal(tiny_bert, frozen, numbered):
    one = masked_lm_metrics(tiny_bert, batches(numbered, frozen, 1))
    for size in (2, 3, 8):
        assert masked_lm_metrics(tiny_bert, batches(numbered, frozen, size)) == pytest.approx(one, abs=1e-6)
    assert masked_lm_metrics(tiny_bert, batches(numbered, frozen, 1)) == one


def test_sums_are_per_example(tiny_bert, frozen, numbered):
    together = example_sums(tiny_bert.eval(), frozen(numbered))
    assert together.shape == (8, 3)
    assert together.dtype == torch.float32  # MPS has no float64
    for i, row in enumerate(numbered):
        assert torch.allclose(example_sums(tiny_bert, frozen([row]))[0], together[i], atol=1e-5)


def test_the_models_mode_is_left_as_it_was(tiny_bert, frozen, numbered):
    for mode in (True, False):
        tiny_bert.train(mode)
        masked_lm_metrics(tiny_bert, [frozen(numbered)])
        assert tiny_bert.training is mode


def test_nothing_masked_is_an_error_and_not_nan():
    with pytest.raises(ValueError, match="none of the held-out tokens is masked"):
        MaskedLM(keep_in_memory=True).compute(nats=[0.0], correct=[0], masked_tokens=[0])


def test_word_frequencies_score_what_counting_gives():
    found = word_frequency_metrics([[4, 4, 5], [4]], [torch.tensor([[4, -100], [6, 5]])], 8, special_ids=[0, 1])
    counts = np.array([0, 0, 1, 1, 4, 2, 1, 1])  # one added to each
    expected = -np.mean(np.log(counts[[4, 6, 5]] / counts.sum()))
    assert found["loss"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["masked_tokens"] == 3


def two_measurements(examples, seed=0):
    """Sums of the same paragraphs twice: the second time half a nat a token better, give or take."""
    generator = np.random.default_rng(seed)
    masked = generator.integers(1, 30, examples).astype(float)
    nats = masked * generator.normal(4.0, 0.5, examples)
    gains = masked * generator.normal(0.5, 0.4, examples)
    zeros = np.zeros(examples)
    return np.stack([nats, zeros, masked], 1), np.stack([nats - gains, zeros, masked], 1)


def test_the_interval_is_that_of_large_numbers():
    """Of many paragraphs the bootstrap's interval is the normal one, of a ratio of sums (the delta method)."""
    before, after = two_measurements(400)
    found = paired_gain(before, after)
    fallen, masked = before[:, 0] - after[:, 0], before[:, 2]
    gain = fallen.sum() / masked.sum()
    error = np.sqrt(((fallen - gain * masked) ** 2).sum()) / masked.sum()
    assert found["loss"] == pytest.approx(gain)
    assert found["low"] == pytest.approx(gain - 1.96 * error, abs=0.1 * error)
    assert found["high"] == pytest.approx(gain + 1.96 * error, abs=0.1 * error)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    held = 0
    for seed in range(200):
        found = paired_gain(*two_measurements(50, seed), resamples=500)
        held += found["low"] <= 0.5 <= found["high"]
    assert 0.88 <= held / 200 <= 0.99


def test_pairs_are_compared_and_not_two_heaps():
    before, after = two_measurements(50)
    found = paired_gain(before, after)
    mirrored = paired_gain(after, before)
    assert (found["low"], found["high"]) == pytest.approx((-mirrored["high"], -mirrored["low"]), abs=0.01)
    constant = before.copy()
    constant[:, 0] -= 0.3 * before[:, 2]  # each paragraph by the same: however they differ, there is no doubt
    found = paired_gain(before, constant)
    assert (found["low"], found["high"]) == pytest.approx((0.3, 0.3))
    assert paired_gain(before, after) == paired_gain(before, after)


def test_paragraphs_without_a_masked_token_do_not_count():
    before, after = two_measurements(20)
    nothing = np.zeros((3, 3))
    found = paired_gain(np.concatenate([before, nothing]), np.concatenate([after, nothing]))
    assert found == paired_gain(before, after)
    assert found["paragraphs"] == 20
    assert paired_gain(before, after, "rows")["rows"] == 20


def test_other_masks_are_not_compared():
    before, after = two_measurements(20)
    after[3, 2] += 1
    with pytest.raises(AssertionError, match="not the same masked tokens"):
        paired_gain(before, after)
