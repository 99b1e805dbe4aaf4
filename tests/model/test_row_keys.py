from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking import random_keys
from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.model.row_keys import RowKeys, by_head, mix_, token_keys

ROWS = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=9), min_size=1, max_size=6)


def joined(rows):
    ids = torch.tensor([token for row in rows for token in row])
    return joined_row(torch.tensor([len(row) for row in rows])) | {"input_ids": ids.unsqueeze(0)}


def padded(rows, width, pad=0):
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_it_is_the_generator_of_the_masks(numbers):
    expected = random_keys.mix(np.array(numbers, dtype=np.int64).view(np.uint64)).view(np.int64)
    assert mix_(torch.tensor(numbers)).tolist() == expected.tolist()


@given(ROWS, st.integers(0, 5), st.integers(0, 30_000))
def test_a_row_has_the_same_keys_in_every_batch_and_layout(rows, extra, pad):
    together = token_keys(joined(rows))[0].split([len(row) for row in rows])
    batch = padded(rows, max(map(len, rows)) + extra, pad)
    for row, keys, in_batch in zip(rows, together, token_keys(batch), strict=True):
        assert torch.equal(keys, token_keys(joined([row]))[0])
        assert torch.equal(keys, in_batch[: len(row)])
        assert torch.equal(keys, token_keys({"input_ids": torch.tensor([row])})[0])
        assert len(set(keys.tolist())) == len(row)


def test_rows_that_differ_in_one_token_or_its_place_have_other_keys():
    rows = [[7, 8, 9], [7, 8, 10], [8, 7, 9], [7, 8]]
    keys = [set(each.tolist()) for each in token_keys(joined(rows))[0].split([3, 3, 3, 2])]
    assert len(set.union(*keys)) == 11


def test_heads_and_calls_have_other_keys():
    keys = RowKeys()
    model = torch.nn.Identity()
    torch.manual_seed(3)
    keys.begin(model, (), joined([[7, 8, 9]]))
    first, second = keys.next(), keys.next()
    heads = by_head(first, 4)
    assert heads.shape == (4, 1, 3)
    assert len({*first.flatten().tolist(), *second.flatten().tolist(), *heads.flatten().tolist()}) == 6 + 12
    keys.begin(model, (), joined([[7, 8, 9]]))  # the next pass of the step begins anew
    assert torch.equal(keys.next(), first)
    torch.manual_seed(4)
    keys.begin(model, (), joined([[7, 8, 9]]))
    assert not torch.equal(keys.next(), first)


def test_evaluation_takes_no_keys_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    keys = RowKeys()
    keys.begin(torch.nn.Identity().eval(), (), joined([[7, 8]]))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("shape", "keys"),
    [((2, 3, 8), (2, 3)), ((2, 4, 3, 3), (2, 4, 3)), ((5, 8), (5,))],
    ids=["hidden", "attention", "table"],
)
def test_the_shapes_that_layers_drop_from(shape, keys):
    found = RowKeys()
    found.begin(torch.nn.Identity(), (), padded([[7, 8, 9], [4, 5]], 3))
    assert found.of_shape(torch.Size(shape)).shape == keys


def test_another_shape_is_refused():
    keys = RowKeys()
    keys.begin(torch.nn.Identity(), (), padded([[7, 8, 9], [4, 5]], 3))
    with pytest.raises(
        ValueError, match=r"dropout_by_example: received noise of shape \(2, 8, 3\) for tokens of shape \(2, 3\)"
    ):
        keys.of_shape(torch.Size((2, 8, 3)))
