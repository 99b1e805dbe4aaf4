"""A row may bring the share of its own tokens that is masked."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch

from mlm_recipes import DataCollatorForMaskedLM

SHARES = [0.05, 0.15, 0.3, 0.5, 1.0]
TOKENS = 2000


def row(share=None, example_id=0):
    found = {"input_ids": [110 + n % 700 for n in range(TOKENS)], "example_id": example_id, "epoch": 0}
    return found if share is None else found | {"mlm_probability": share}


def masked(collate, rows):
    """Return the share of each row's tokens that has a label."""
    return (collate(rows)["labels"] != -100).float().mean(dim=1).tolist()


@pytest.mark.parametrize("joined", [False, True])
def test_each_row_is_masked_as_it_asks_for(tokenizer, joined):
    rows = [row(share, n) for n, share in enumerate(SHARES)]
    labels = DataCollatorForMaskedLM(tokenizer, seed=1, padding_free=joined)(rows)["labels"].reshape(5, TOKENS)
    for share, found in zip(SHARES, (labels != -100).float().mean(dim=1).tolist(), strict=True):
        # Five standard deviations of the number of successes in so many independent draws.
        assert abs(found - share) <= 5 * (share * (1 - share) / TOKENS) ** 0.5, share


def test_a_row_masks_what_a_collator_of_that_share_masks(tokenizer):
    rows = [row(0.3, 0), row(None, 1), row(0.5, 2)]
    found = DataCollatorForMaskedLM(tokenizer, seed=1)(rows)["labels"]
    for n, share in enumerate([0.3, 0.15, 0.5]):
        alone = DataCollatorForMaskedLM(tokenizer, mlm_probability=share, seed=1)([row(None, n)])
        assert torch.equal(found[n], alone["labels"][0])


def test_a_higher_share_adds_masks_and_removes_none(tokenizer):
    low, high = (DataCollatorForMaskedLM(tokenizer, seed=1)([row(share)])["labels"] != -100 for share in (0.15, 0.3))
    assert high[low].all()
    assert high.sum() > low.sum()


def test_the_share_is_not_passed_on_to_the_model(tokenizer):
    assert set(DataCollatorForMaskedLM(tokenizer)([row(0.3)])) == {"input_ids", "attention_mask", "labels"}


def test_evaluation_masks_its_own_share_of_every_row(tokenizer):
    frozen = DataCollatorForMaskedLM(tokenizer).frozen(seed=0, draw=2)
    assert torch.equal(frozen([row(0.9)])["labels"], frozen([row()])["labels"])
    static = DataCollatorForMaskedLM(tokenizer, static_masks=True)
    assert masked(static, [row(0.9)])[0] > 0.8  # masks that are drawn once are still training's


@pytest.mark.parametrize("share", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), 1])
def test_any_number_is_a_share(tokenizer, share):
    assert masked(DataCollatorForMaskedLM(tokenizer), [row(share)])[0] == pytest.approx(float(share), abs=0.06)


def test_a_missing_value_of_a_data_set_means_the_collators_share(tokenizer):
    rows = datasets.Dataset.from_list([row(0.9), row(None, 1)])
    assert rows[1]["mlm_probability"] is None
    high, usual = masked(DataCollatorForMaskedLM(tokenizer), [*rows])
    assert high > 0.8 > 0.3 > usual


@pytest.mark.parametrize("share", [0, 0.0, -0.1, 1.01, float("nan"), "0.3", True, [0.3]])
def test_what_is_no_share_is_refused(tokenizer, share):
    with pytest.raises(ValueError, match=r"mlm_probability: received .* in a row. Accepted: a number above 0"):
        DataCollatorForMaskedLM(tokenizer)([row(share)])
