from __future__ import annotations

import math

import pytest
import torch

from mlm_recipes.evaluation.same_answers import Answers, compare, milliseconds


def batch(*labels):
    return {"input_ids": torch.zeros(len(labels), len(labels[0]), dtype=torch.int64), "labels": torch.tensor(labels)}


def always(*logits):
    return lambda batch: torch.tensor(logits).expand(*batch["input_ids"].shape, len(logits))


def test_sums_are_over_masked_tokens_of_all_batches():
    batches = [batch([-100, 1, -100], [0, -100, -100]), batch([-100, -100]), batch([1])]
    found = compare({"a": always(0.0, math.log(3)), "b": always(math.log(3), 0.0)}, batches, 1e-6)
    a, b = found["a"], found["b"]
    assert (a.tokens, a.correct, a.same, a.different) == (3, 2, 3, 0)
    assert a.nats == pytest.approx(2 * math.log(4 / 3) + math.log(4))
    assert (b.tokens, b.correct, b.same, b.different) == (3, 1, 0, 3)
    assert b.largest == pytest.approx(math.log(3))


@pytest.mark.parametrize(("behind", "different"), [(0.0, 0), (1e-4, 0), (5e-3, 1)])
def test_a_first_choice_that_is_as_good_but_for_rounding_is_the_same_answer(behind, different):
    answers = Answers()
    expected = torch.tensor([[1.0, 1.0 - behind]])
    answers.add(torch.tensor([[0.5, 0.6]]), expected, torch.tensor([0]), rounding=1e-3)
    assert answers.different == different


def test_each_model_is_timed_on_each_row():
    calls = []
    found = milliseconds({"a": lambda row: calls.append(("a", row)), "b": lambda row: calls.append(("b", row))}, [1, 2])
    assert found.keys() == {"a", "b"}
    assert all(time >= 0 for time in found.values())
    assert calls[:4] == [("a", 1), ("b", 1), ("a", 1), ("b", 1)]  # by turns
    assert {row for _, row in calls} == {1, 2}
