"""A plan made on the CPU divides a batch as the batch itself would be divided."""

from __future__ import annotations

import pytest
import torch

from mlm_recipes.masking.batch_layout import PLANNED, count_examples, split
from mlm_recipes.masking.batch_plan import PARTS, POSITIONS, Planned, by_length, masked_positions


@pytest.mark.parametrize("side", ["right", "left"])
def test_every_token_is_in_one_part_and_padding_is_removed(side):
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


def test_a_batch_of_similar_lengths_is_not_split():
    batch = {"attention_mask": torch.ones(8, 50)}
    (part,) = by_length(batch)
    assert torch.equal(part["attention_mask"], batch["attention_mask"])


def test_a_batch_of_only_padding_is_one_column():
    assert by_length({"attention_mask": torch.zeros(1, 4)})[0]["attention_mask"].shape == (1, 1)


def padded_batch():
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([5, 200, 1, 180, 7, 90])
    mask = (torch.arange(200) < lengths[:, None]).long()
    ids = torch.randint(5, 99, mask.shape, generator=generator) * mask
    labels = ids.where((torch.rand(mask.shape, generator=generator) < 0.3) & mask.bool(), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def test_a_planned_batch_has_the_positions_of_its_labels_and_of_each_part():
    batch = padded_batch()
    planned = Planned(lambda rows: batch, "cpu", in_parts=True)([])
    assert torch.equal(planned[POSITIONS], masked_positions(batch["labels"]))
    found, expected = by_length(planned), by_length(batch)
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() == {*batch, POSITIONS}
        assert all(torch.equal(one[name], other[name]) for name in other)
        assert torch.equal(one[POSITIONS], masked_positions(one["labels"]))
    assert sum(len(part[POSITIONS]) for part in found) == len(planned[POSITIONS])


def test_a_plan_is_for_the_device_that_uses_it():
    """On a GPU, one more pass costs as much as some thousand tokens."""
    assert len(Planned(lambda rows: padded_batch(), "cuda", in_parts=True)([])[PARTS]) == 1


def test_a_part_of_a_batch_has_no_plan_and_a_batch_without_labels_has_none():
    planned = Planned(lambda rows: padded_batch(), "cpu", in_parts=True)([])
    assert count_examples(planned) == 6
    assert not any(name in part for part in split(planned, 2) for name in PLANNED)
    ids = {"input_ids": torch.ones(2, 3)}
    assert Planned(lambda rows: ids, "cpu")([]) is ids
