from __future__ import annotations

import pytest
import torch

from mlm_recipes.masking.layout import by_length


@pytest.mark.parametrize("side", ["right", "left"])
def test_every_token_is_in_one_part_and_padding_is_cut_away(side):
    lengths = torch.tensor([5, 200, 1, 180, 7, 90, 3, 60])
    mask = (torch.arange(200) < lengths[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.arange(mask.numel()).view_as(mask) * mask
    parts = by_length({"input_ids": ids, "attention_mask": mask})
    assert len(parts) > 2
    found = torch.cat([part["input_ids"][part["attention_mask"].bool()] for part in parts])
    assert torch.equal(found.sort().values, ids[mask.bool()].sort().values)
    assert sum(part["input_ids"].numel() for part in parts) < 0.6 * ids.numel()
    assert all(part["attention_mask"].any(0).all() for part in parts)


def test_a_batch_of_like_length_stays_whole():
    batch = {"attention_mask": torch.ones(8, 50)}
    (part,) = by_length(batch)
    assert torch.equal(part["attention_mask"], batch["attention_mask"])


def test_padding_alone_is_one_column():
    assert by_length({"attention_mask": torch.zeros(1, 4)})[0]["attention_mask"].shape == (1, 1)
