from __future__ import annotations

import numpy as np
import pytest
import torch

from mlm_recipes.evaluation.predictions import Predictions, TokenIds
from mlm_recipes.masking.batch_layout import joined_row

LABELS = torch.tensor([[-100, 7, -100, 3, -100], [-100, -100, 5, -100, -100]])
JOINED = {"labels": LABELS.reshape(1, -1)} | joined_row(torch.tensor([5, 5]))


def logits_of(*ids, width=9):
    return torch.nn.functional.one_hot(torch.tensor(ids), width).float()


@pytest.mark.parametrize("batch", [{"labels": LABELS}, JOINED])
def test_repeated_examples_are_dropped_and_the_order_is_that_of_the_text(batch):
    """The last batch of several processes is filled up with the first examples."""
    kept = Predictions(None, gather=lambda rows: torch.cat([rows, rows])[:3], pad=lambda rows, fill: rows)
    kept.read(logits_of(7), torch.tensor([7]))  # in two parts
    kept.read(logits_of(4, 5), torch.tensor([3, 5]))
    kept.end_batch(batch, torch.zeros(3))
    found = kept.joined()
    assert found.predictions.tolist() == [7, 4, 5, 7, 4]
    assert found.labels.tolist() == [7, 3, 5, 7, 3]
    assert found.nats is None


def test_each_batch_is_passed_on_as_tensors_and_kept_only_if_requested():
    passed = []
    kept = Predictions(None, lambda rows: rows, lambda rows, fill: rows, nats=True, each=passed.append, keeps=False)
    kept.read(logits_of(7, 4, 5), torch.tensor([7, 3, 5]))
    kept.end_batch({"labels": LABELS}, torch.tensor([0.5, 1.0, 2.0]))
    assert passed[0].predictions.tolist() == [7, 4, 5]
    assert passed[0].nats.tolist() == [0.5, 1.0, 2.0]
    assert len(kept.joined().labels) == 0


def test_half_precision_becomes_numbers_that_numpy_has():
    kept = Predictions(lambda logits, labels: logits.bfloat16(), lambda rows: rows, lambda rows, fill: rows)
    kept.read(logits_of(7, 4, 5), torch.tensor([7, 3, 5]))
    kept.end_batch({"labels": LABELS}, torch.zeros(3))
    assert kept.joined().predictions.shape == (3, 9)


def test_a_batch_without_a_masked_token_adds_nothing():
    kept = Predictions(None, lambda rows: rows, lambda rows, fill: rows)
    kept.read(torch.empty(0, 9), torch.empty(0, dtype=torch.long))
    kept.end_batch({"labels": torch.full((2, 4), -100)}, torch.empty(0))
    assert kept.joined().predictions.tolist() == []


def test_only_argmax_of_ids_is_refused():
    ids = np.array([3, 5]).view(TokenIds)
    assert (ids == [3, 4]).mean() == 0.5
    assert ids.max() == 5
    with pytest.raises(ValueError, match="argmax"):
        np.argmax(ids, axis=-1)
