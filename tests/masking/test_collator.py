from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DataCollatorForLanguageModeling

from mlm_recipes import DataCollatorForMaskedLM


def padded(rows, width, pad=0):
    return torch.tensor([row["input_ids"] + [pad] * (width - len(row["input_ids"])) for row in rows])


def test_the_tutorials_rule(tokenizer, rows):
    batch = DataCollatorForMaskedLM(tokenizer, mlm_probability=0.5)(rows)
    original = padded(rows, 14)
    chosen = batch["labels"] != -100
    assert (batch["input_ids"][chosen] == 103).all()
    assert (batch["input_ids"][~chosen] == original[~chosen]).all()
    assert (batch["labels"][chosen] == original[chosen]).all()
    assert not torch.isin(original[chosen], torch.tensor([0, 101, 102])).any()
    assert (batch["attention_mask"] == (original != 0)).all()
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    probability=st.floats(0.01, 1.0),
    side=st.sampled_from(["left", "right"]),
    multiple=st.sampled_from([None, 8]),
)
def test_a_batch_consists_of_its_rows_with_masks(tokenizer, lengths, probability, side, multiple):
    rows = [{"input_ids": [101, *range(110, 110 + n), 102], "example_id": n} for n in lengths]
    before, tokenizer.padding_side = tokenizer.padding_side, side
    try:
        batch = DataCollatorForMaskedLM(
            tokenizer, mlm_probability=probability, pad_to_multiple_of=multiple, static_masks=True
        )(rows)
    finally:
        tokenizer.padding_side = before
    width = batch["input_ids"].shape[1]
    assert width == (max(lengths) + 2 if multiple is None else -(-(max(lengths) + 2) // 8) * 8)
    for row, ids, labels, mask in zip(
        rows, *(batch[k] for k in ("input_ids", "labels", "attention_mask")), strict=True
    ):
        real = mask.bool()
        assert real.sum() == len(row["input_ids"])
        assert real[0 if side == "right" else -1]
        restored = torch.where(labels == -100, ids, labels)
        assert restored[real].tolist() == row["input_ids"]
        assert (ids[~real] == 0).all()
        assert (labels[~real] == -100).all()


def test_static_masks_depend_on_the_example_and_not_on_the_batch(tokenizer, rows):
    rows = [row | {"example_id": i} for i, row in enumerate(rows)]
    collate = DataCollatorForMaskedLM(
        tokenizer, static_masks=True, seed=3, mask_replace_prob=0.8, random_replace_prob=0.1
    )
    together = collate(rows)
    for i, row in reversed(list(enumerate(rows))):
        alone, n = collate([row]), len(row["input_ids"])
        for name in ("input_ids", "labels"):
            assert alone[name][0].tolist() == together[name][i, :n].tolist()
    other_seed = DataCollatorForMaskedLM(tokenizer, static_masks=True, seed=4)(rows)
    assert other_seed["labels"].tolist() != together["labels"].tolist()


def test_dynamic_masks_are_drawn_from_torchs_generator_each_time(tokenizer, rows):
    collate = DataCollatorForMaskedLM(tokenizer)
    torch.manual_seed(1)
    first, second = collate(rows)["labels"].tolist(), collate(rows)["labels"].tolist()
    torch.manual_seed(1)
    assert collate(rows)["labels"].tolist() == first
    assert first != second


@pytest.mark.parametrize("policy", [{}, {"mask_replace_prob": 0.8, "random_replace_prob": 0.1}, {"static_masks": True}])
def test_masks_depend_on_the_example_and_its_epoch(tokenizer, rows, policy):
    """For every policy, they depend only on seed, epoch and example_id, not on the batch, its order or its padding."""
    rows = [row | {"example_id": 10 + i, "epoch": epoch} for epoch in (0, 1) for i, row in enumerate(rows)]
    collate = DataCollatorForMaskedLM(tokenizer, mlm_probability=0.5, seed=4, **policy)
    alone = {}
    for row in rows:
        batch = collate([row])
        alone[row["example_id"], row["epoch"]] = (batch["input_ids"][0].tolist(), batch["labels"][0].tolist())

    for order in (range(16), reversed(range(16)), [3, 12, 5, 9]):
        chosen = [rows[i] for i in order]
        batch = replace(collate, padding="max_length", max_length=40)(chosen)
        for row, ids, labels in zip(chosen, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            n = len(row["input_ids"])
            assert (ids[:n], labels[:n]) == alone[row["example_id"], row["epoch"]]

    same = [alone[10 + i, 0] == alone[10 + i, 1] for i in range(8)]
    assert all(same) if "static_masks" in policy else sum(same) < 4
    other = replace(collate, seed=5)
    assert sum(other([row])["labels"][0].tolist() == alone[row["example_id"], row["epoch"]][1] for row in rows) < 8


@pytest.mark.parametrize("loss_on", ["masked", "all"])
def test_none_does_not_change_a_batch_and_only_nones_have_no_loss(tokenizer, rows, loss_on):
    rows = [row | {"example_id": i, "epoch": 0} for i, row in enumerate(rows)]
    collate = DataCollatorForMaskedLM(tokenizer, loss_on=loss_on, mlm_probability=0.5)
    with_it, without = collate([None, *rows, None]), collate(rows)
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    nothing = collate([None, None])
    assert nothing["labels"].tolist() == [[-100]]
    assert nothing["attention_mask"].tolist() == [[1]]
    frozen = collate.frozen(0)([None])
    assert frozen["labels"].tolist() == [[-100]]


def test_frozen_masks_differ_from_those_of_all_training_epochs(tokenizer, rows):
    rows = [row | {"example_id": i} for i, row in enumerate(rows)]
    training = DataCollatorForMaskedLM(tokenizer, static_masks=True, loss_on="all")
    frozen = training.frozen(seed=0)
    assert frozen(rows)["labels"].tolist() == frozen(rows)["labels"].tolist()
    assert (frozen(rows)["labels"] == -100).any()
    assert frozen(rows)["input_ids"].tolist() != training(rows)["input_ids"].tolist()


def test_frozen_masks_do_not_depend_on_how_training_masks(tokenizer, rows):
    rows = [row | {"example_id": i} for i, row in enumerate(rows)]
    plain = DataCollatorForMaskedLM(tokenizer).frozen(seed=0)(rows)
    policy = {"mlm_probability": 0.6, "mask_replace_prob": 0.1, "random_replace_prob": 0.5}
    other = DataCollatorForMaskedLM(tokenizer, seed=5, **policy).frozen(seed=0)(rows)
    assert all(torch.equal(plain[name], other[name]) for name in plain)
    assert set(plain["input_ids"][plain["labels"] != -100].tolist()) == {tokenizer.mask_token_id}


def test_random_tokens_come_from_the_whole_vocabulary_and_are_never_special(tokenizer):
    collate = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0, mask_replace_prob=0.0, random_replace_prob=1.0)
    batch = collate([{"input_ids": [110] * 100_000}])
    found = set(batch["input_ids"][0].tolist())
    assert found == set(range(len(tokenizer))) - set(tokenizer.all_special_ids)


def test_loss_on_all_clones_the_labels_including_padding(tokenizer, rows):
    batch = DataCollatorForMaskedLM(tokenizer, loss_on="all", padding="max_length", max_length=20)(rows)
    assert batch["labels"].tolist() == padded(rows, 20).tolist()
    assert (batch["input_ids"] == 103).any()


def test_no_special_token_of_the_tokenizer_is_masked(tokenizer):
    ids = [101, 100, 102, 0, 103, 110]
    batch = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0)([ids])
    assert batch["labels"].tolist() == [[-100, -100, -100, -100, -100, 110]]


def test_a_callers_special_tokens_mask_is_respected(tokenizer):
    row = {"input_ids": [101, 110, 111, 102], "special_tokens_mask": [1, 1, 0, 1]}
    batch = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0)([row])
    assert batch["labels"].tolist() == [[-100, -100, 111, -100]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ids: ids,
        tuple,
        np.array,
        torch.tensor,
        lambda ids: {"input_ids": ids},
        lambda ids: {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids))},
        lambda ids: {
            "input_ids": ids,
            "token_type_ids": [0] * len(ids),
            "special_tokens_mask": [int(i < 103) for i in ids],
        },
    ],
    ids=["list", "tuple", "array", "tensor", "dict", "dict of tensors", "all columns"],
)
def test_the_inputs_of_transformers_collator_are_accepted(tokenizer, wrap):
    examples = [wrap([101, 110, 111, 102]), wrap([101, 110, 102])]
    theirs = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=1.0, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    ours = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0)
    expected = theirs([wrap([101, 110, 111, 102]), wrap([101, 110, 102])])
    batch = ours(examples)
    for name in expected:
        assert batch[name].tolist() == expected[name].tolist(), name


def test_special_tokens_without_a_role_are_special_too(tokenizer):
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken("<law>", special=True), AddedToken("statute", special=False)])
    law, statute = tokenizer.convert_tokens_to_ids(["<law>", "statute"])
    assert law not in tokenizer.all_special_ids  # transformers' list
    collate = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0, mask_replace_prob=0.0, random_replace_prob=1.0)
    batch = collate([[101, law, statute, 102]])
    assert batch["labels"].tolist() == [[-100, -100, statute, -100]]
    drawn = set(collate([[110] * 50_000])["input_ids"][0].tolist())
    assert law not in drawn
    assert statute in drawn


def test_examples_with_the_same_tokens_do_not_share_their_masks(tokenizer):
    """Two processes may draw the same number; their examples still get different masks."""
    collate = DataCollatorForMaskedLM(tokenizer, mlm_probability=0.5)
    found = []
    for example_id in (1, 2):
        torch.manual_seed(0)
        found.append(collate([{"input_ids": [110] * 200, "example_id": example_id}])["labels"].tolist())
    assert found[0] != found[1]


def test_frozen_masks_cover_every_example(tokenizer):
    rows = [{"input_ids": [101, 110, 102], "example_id": i} for i in range(50)]
    rows.append({"input_ids": [101, 102], "example_id": 50})
    labels = DataCollatorForMaskedLM(tokenizer).frozen(seed=0)(rows)["labels"]
    assert (labels != -100).sum(-1).tolist() == [1] * 50 + [0]


def test_padding_to_a_multiple_stops_at_the_models_positions(tokenizer):
    collate = DataCollatorForMaskedLM(tokenizer, pad_to_multiple_of=100, max_length=128)
    assert collate([[110] * 60])["input_ids"].shape == (1, 100)
    assert collate([[110] * 120])["input_ids"].shape == (1, 128)


def test_a_tokenizer_that_pads_with_its_last_token_keeps_attending_to_it(tokenizer):
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.sep_token
    batch = DataCollatorForMaskedLM(tokenizer)([[101, 110, 102], [101, 102]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_padding_in_padded_rows_is_not_attended_to(tokenizer):
    batch = DataCollatorForMaskedLM(tokenizer)(torch.tensor([[101, 110, 102, 0], [101, 102, 0, 0]]))
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_an_attention_mask_in_some_rows_applies_only_to_them(tokenizer):
    rows = [{"input_ids": [110, 111]}, {"input_ids": [110, 111], "special_tokens_mask": [1, 0]}]
    batch = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0)(rows, return_tensors="pt")
    assert batch["labels"].tolist() == [[110, 111], [-100, 111]]
    with pytest.raises(ValueError, match="return_tensors: received 'np'"):
        DataCollatorForMaskedLM(tokenizer)(rows, return_tensors="np")


def test_token_type_ids_are_padded(tokenizer):
    rows = [
        {"input_ids": [101, 110, 102], "token_type_ids": [0, 1, 1]},
        {"input_ids": [101, 102], "token_type_ids": [0, 0]},
    ]
    assert DataCollatorForMaskedLM(tokenizer)(rows)["token_type_ids"].tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mlm_probability": 0.0}, "mlm_probability: received 0.0"),
        ({"mlm_probability": 1.5}, "mlm_probability: received 1.5"),
        ({"mlm_probability": float("nan")}, "mlm_probability: received nan"),
        ({"mask_replace_prob": -0.1}, "mask_replace_prob: received -0.1"),
        ({"random_replace_prob": 0.5}, "together at most 1"),
        ({"padding": "longset"}, "padding: received 'longset'"),
        ({"loss_on": "mask"}, "loss_on: received 'mask'"),
        ({"pad_to_multiple_of": -8}, "pad_to_multiple_of: received -8"),
    ],
)
def test_a_value_out_of_range_is_refused(tokenizer, changes, says):
    with pytest.raises(ValueError, match=says):
        DataCollatorForMaskedLM(tokenizer, **changes)


def test_an_epoch_needs_an_example_id(tokenizer, rows):
    with pytest.raises(ValueError, match="epoch: received rows without an example_id"):
        DataCollatorForMaskedLM(tokenizer)([row | {"epoch": 1} for row in rows])


def test_static_masks_need_an_example_id(tokenizer, rows):
    with pytest.raises(ValueError, match="example_id"):
        DataCollatorForMaskedLM(tokenizer, static_masks=True)(rows)


def test_a_row_longer_than_max_length_is_refused(tokenizer, rows):
    with pytest.raises(ValueError, match="max_length: received 8 and a row of 14 tokens"):
        DataCollatorForMaskedLM(tokenizer, padding="max_length", max_length=8)(rows)


def test_max_length_padding_needs_a_length(tokenizer):
    assert DataCollatorForMaskedLM(tokenizer, padding="max_length").max_length == 512
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = int(1e30)  # not known
    with pytest.raises(ValueError, match="max_length: received None"):
        DataCollatorForMaskedLM(tokenizer, padding="max_length")


def test_joining_a_padded_row_removes_its_padding(tokenizer):
    rows = [
        {"input_ids": [101, 200, 201, 102, 0, 0], "attention_mask": [1, 1, 1, 1, 0, 0], "token_type_ids": [1] * 6},
        {"input_ids": [101, 202, 102], "attention_mask": [1, 1, 1], "token_type_ids": [0] * 3},
    ]
    batch = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0, padding_free=True)(rows)
    assert batch["input_ids"].tolist() == [[101, 103, 103, 102, 101, 103, 102]]
    assert batch["labels"].tolist() == [[-100, 200, 201, -100, -100, 202, -100]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1, 1, 0, 0, 0]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 4, 7]
    assert "attention_mask" not in batch
    nothing = DataCollatorForMaskedLM(tokenizer, padding_free=True)([None])
    assert nothing["input_ids"].shape == (1, 1)
    assert (nothing["labels"] == -100).all()
