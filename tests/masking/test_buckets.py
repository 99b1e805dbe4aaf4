"""A batch that is filled up to the shape of its bucket has the same loss, and there are few shapes."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, assert_same_gradients, make
from hypothesis import given, settings
from hypothesis import strategies as st
from same_run import gradient_bound, loss_bound

from mlm_recipes.masking.batch_layout import joined_row, lengths_of
from mlm_recipes.masking.batch_plan import FILLING, POSITIONS, masked_positions
from mlm_recipes.masking.buckets import bucket_tokens, filled_up, shape_of
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.positions import first_position
from mlm_recipes.model.sparse_prediction import only_at

OWN_ATTENTION = {"mpnet", "deberta-v2"}


def joined_batch(lengths, share=0.15, first=0):
    generator = torch.Generator().manual_seed(sum(lengths))
    shape = (1, sum(lengths))
    ids = torch.randint(5, 120, shape, generator=generator)
    labels = ids.where(torch.rand(shape, generator=generator) < share, -100)
    batch = {"input_ids": ids, "labels": labels} | joined_row(torch.tensor(lengths), first)
    return batch | {POSITIONS: masked_positions(labels)}


@given(st.integers(1, 10**6))
def test_at_most_an_eighth_of_a_bucket_is_filling(tokens):
    filled = bucket_tokens(tokens)
    assert tokens <= filled <= max(256, tokens * 9 / 8)
    assert bucket_tokens(filled) == filled


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(sum), st.floats(0, 1))
def test_the_examples_stay_as_they_are_and_the_filling_has_no_label(lengths, share):
    batch = joined_batch(lengths, share)
    tokens = sum(lengths)
    filled = filled_up(batch, longest=60, fill_id=0)
    assert filled["input_ids"].shape[1] == bucket_tokens(tokens)
    for name in ("input_ids", "labels", "position_ids"):
        assert torch.equal(filled[name][:, :tokens], batch[name])
    assert (filled["labels"][0, tokens:] == -100).all()
    found = lengths_of(filled).tolist()
    assert found[: len(lengths)] == lengths
    assert len(found) % 4 == 0
    assert max(found) <= filled["max_length_q"] == 60
    assert filled["position_ids"].max() < 60
    labels = filled["labels"][0, filled[POSITIONS]]
    masked = len(batch[POSITIONS])
    assert torch.equal(filled[POSITIONS][:masked], batch[POSITIONS])
    assert (labels[masked:] == -100).all()


def test_few_shapes_serve_many_batches():
    generator = torch.Generator().manual_seed(1)
    shapes = set()
    for _ in range(200):  # as the tutorial's batches
        lengths = torch.randint(10, 200, (16,), generator=generator).tolist()
        filled = filled_up(joined_batch(lengths), longest=512, fill_id=0)
        del filled[FILLING]
        shapes.add(shape_of(filled))
    assert len(shapes) <= 16


def test_a_padded_batch_is_left_as_it_is():
    padded = {"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 3)}
    assert filled_up(padded, longest=3, fill_id=0) == padded


def test_a_large_batch_is_left_as_it_is():
    batch = joined_batch([50, 51])
    assert filled_up(batch, longest=60, fill_id=0, most_tokens=100) == batch
    assert filled_up(batch, longest=60, fill_id=0, most_tokens=101)[FILLING] == 155


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - OWN_ATTENTION))
def test_the_loss_and_the_gradients_are_the_same(architecture):
    model = make(architecture)
    assert use_padding_free(model) is None
    first = first_position(model)
    batch = joined_batch([9, 1, 17], 0.4, first)
    found = []
    for given_batch in (batch, filled_up(batch, 20, model.config.pad_token_id or 0, first)):
        inputs = dict(given_batch)
        labels, positions = inputs.pop("labels"), inputs.pop(POSITIONS)
        model.zero_grad()
        with only_at(model, positions):
            loss = masked_lm_loss(model(**inputs), labels[:, positions], torch.tensor(len(batch[POSITIONS])))
        loss.backward()
        found.append((loss.item(), {name: weight.grad for name, weight in model.named_parameters()}))
    assert found[1][0] == pytest.approx(found[0][0], rel=loss_bound(model))
    assert_same_gradients(found[0][1], found[1][1], gradient_bound(model))
