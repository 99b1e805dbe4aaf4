"""A part of a model is frozen: it gets no gradient, and what lies below it is not computed backward."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import ARCHITECTURES, make

from mlm_recipes.model.freezing import freeze, frozen_facts, lower_layers
from mlm_recipes.model.lora import add_lora
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.sample_rows import pad_id, padded, sample_rows


def trained(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def learn(model):
    """Compute gradients; return the names of the parameters with one, and of the modules that are passed backward."""
    passed = set()

    def note(name):
        return lambda module, args, output: passed.add(name) if output.requires_grad else None

    with_weights = {name: module for name, module in model.named_modules() if module._parameters}
    handles = [module.register_forward_hook(note(name)) for name, module in with_weights.items()]
    model.zero_grad()
    batch = padded(sample_rows(model, [8, 6]), pad_id(model))
    masked_lm_loss(model.train()(**batch), batch["input_ids"]).backward()
    for handle in handles:
        handle.remove()
    return {name for name, weight in model.named_parameters() if weight.grad is not None}, passed


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("part", ["embeddings", "lower-1", "lower-2", "body"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(architecture, part):
    model = make(architecture)
    if architecture == "albert" and part.startswith("lower"):
        with pytest.raises(ValueError, match="share their weights"):
            freeze(model, part)
        return
    whole = learn(model)[0]
    freeze(model, part)
    learning, passed = learn(model)
    assert learning == trained(model) & whole
    assert learning < whole
    assert not model.get_input_embeddings().weight.requires_grad
    assert not any("embeddings" in name for name in passed)


def test_the_numbers_of_a_bert():
    """32 wide, a vocabulary of 120, 32 positions, 2 types; layers of 4 x 32 x 32 + 2 x 32 x 64 weights."""
    embeddings = (120 + 32 + 2) * 32 + 2 * 32
    layer = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32
    head = 32 * 32 + 32 + 2 * 32 + 120
    model = make("bert")
    whole = embeddings + 2 * layer + head
    for part, left in (("embeddings", 2 * layer + head), ("lower-1", layer + head), ("lower-2", head), ("body", head)):
        freeze(model, part)
        found = {"part": part, "parameters": whole, "trained_parameters": left, "head_matrix": True}
        assert frozen_facts(model, part) == found


def test_a_head_with_a_matrix_of_its_own_keeps_learning():
    model = make("bert", tie_word_embeddings=False)
    freeze(model, "body")
    assert "cls.predictions.decoder.weight" in trained(model)
    assert not frozen_facts(model, "body")["head_matrix"]


def test_a_frozen_lower_part_is_not_passed_backward():
    model = make("bert")
    freeze(model, "lower-1")
    passed = learn(model)[1]
    assert any("layer.1." in name for name in passed)
    assert not any("layer.0." in name or "embeddings" in name for name in passed)


def test_another_part_replaces_the_first_one_and_what_the_caller_froze_stays():
    model = make("bert")
    everything = trained(model)
    mine = "bert.encoder.layer.0.output.dense.bias"
    model.get_parameter(mine).requires_grad_(False)
    freeze(model, "body")
    again = copy.deepcopy(model)
    for each in (model, again):  # a copy knows too
        freeze(each, "embeddings")
        assert {name for name in everything - trained(each) if "embeddings" not in name} == {mine}
        freeze(each, "none")
        assert trained(each) == everything - {mine}


def test_an_adapter_that_was_added_since_stays_the_only_thing_that_is_trained():
    pytest.importorskip("peft")
    model = make("bert")
    freeze(model, "lower-1")
    add_lora(model, r=2)
    adapter = trained(model)
    assert {name for name in adapter if ".lora_" not in name} == set()
    freeze(model, "none")
    assert trained(model) == adapter
    freeze(model, "lower-1")  # which freezes a part of the adapter
    assert trained(model) < adapter
    freeze(model, "none")
    assert trained(model) == adapter


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"^freeze: received 'lower-3', and BertForMaskedLM has 2 layers"):
        freeze(make("bert"), "lower-3")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lower 2", "lower-2"), ("lower:2", "lower-2"), ("lower2", "lower-2"), ("lower-0", "embeddings"), ("all", "emb")],
)
def test_another_word_is_refused_with_what_to_write(word, meant):
    with pytest.raises(ValueError, match=rf"^freeze: received '{word}'. Accepted: none, .* Write --freeze {meant}"):
        lower_layers(word)


def test_a_head_that_is_not_apart_is_refused():
    model = make("bert").bert
    with pytest.raises(ValueError, match="does not tell its head from the rest"):
        freeze(model, "body")


def test_gradients_are_those_of_the_whole_model():
    model = make("modernbert")
    learn(model)
    whole = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    freeze(model, "lower-1")
    learn(model)
    for name in trained(model):
        assert torch.equal(model.get_parameter(name).grad, whole[name]), name
