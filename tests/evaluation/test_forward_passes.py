from __future__ import annotations

import numpy as np
import pytest
import torch
from same_run import assert_close, loss_bound

from mlm_recipes.evaluation.forward_passes import evaluate_batches, evaluate_examples
from mlm_recipes.model import cross_entropy


def sums_of(model, *batches):
    return evaluate_examples(model, batches, gather=lambda rows: rows)


def test_sums_are_per_example(tiny_bert, frozen, numbered):
    together = sums_of(tiny_bert, frozen(numbered))
    assert together.shape == (8, 3)
    assert (together[:, 2] > 0).all()
    assert_close(sums_of(tiny_bert, *(frozen([row]) for row in numbered)), together, loss_bound(tiny_bert))


def test_processes_exchange_small_float32_tensors(tiny_bert, frozen, numbered):
    gathered = []
    evaluate_examples(tiny_bert, [frozen(numbered)], gather=lambda rows: gathered.append(rows) or rows)
    assert [(rows.shape, rows.dtype) for rows in gathered] == [((8, 3), torch.float32)]  # MPS has no float64


def test_a_few_rows_at_a_time_equal_all_at_once(tiny_bert, frozen, numbered, monkeypatch):
    def columns():
        ((nats, ranks),) = evaluate_batches(tiny_bert, [frozen(numbered)], lambda batch, *columns: columns)
        return nats, ranks

    at_once = columns()
    monkeypatch.setattr(cross_entropy, "_AT_A_TIME", 1)  # a row
    assert len(at_once[0]) > 8
    assert all(torch.equal(a, b) for a, b in zip(columns(), at_once, strict=True))


def test_a_model_that_returns_nan_has_zero_accuracy(tiny_bert, frozen, numbered):
    """Comparisons with NaN are false: counting the tokens above the true one would find none, and rank it first."""
    with torch.no_grad():
        tiny_bert.cls.predictions.bias.fill_(torch.nan)
    nats, correct, tokens = sums_of(tiny_bert, frozen(numbered)).T
    assert np.isnan(nats).all()
    assert correct.sum() == 0 < tokens.sum()


def test_no_batches_give_no_rows(tiny_bert):
    assert sums_of(tiny_bert).shape == (0, 3)


def test_the_models_mode_is_unchanged(tiny_bert, frozen, numbered):
    def broken(rows):
        assert not tiny_bert.training
        raise RuntimeError("a process is gone")

    for mode in (True, False):
        tiny_bert.train(mode)
        sums_of(tiny_bert, frozen(numbered))
        assert tiny_bert.training is mode
        with pytest.raises(RuntimeError, match="a process is gone"):
            evaluate_examples(tiny_bert, [frozen(numbered)], gather=broken)
        assert tiny_bert.training is mode
