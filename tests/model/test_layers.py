"""A model is asked which of its parameters lie below which layer."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, make

from mlm_recipes.model.layers import depths, encoder_layers, repeated_layers, weights_below

#: What belongs to the embeddings besides the module of that name, and what every layer shares.
BESIDES = {
    "electra": {"electra.embeddings_project.weight", "electra.embeddings_project.bias"},
    "albert": {f"albert.encoder.embedding_hidden_mapping_in.{name}" for name in ("weight", "bias")},
    "xlm-roberta": {"lm_head.decoder.weight"},  # the embeddings' matrix, under its first name
}
SHARED = {
    "mpnet": {"mpnet.encoder.relative_attention_bias.weight"},
    "deberta-v2": {"deberta.encoder.rel_embeddings.weight"},
}


def embeddings(model):
    prefix = f"{model.base_model_prefix}.embeddings."
    return {name for name, _ in model.named_parameters() if name.startswith(prefix)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_input_of_the_first_layer_depends_on_the_embeddings(architecture):
    model = make(architecture)
    first = next(repeated_layers(model.base_model))
    expected = embeddings(model) | BESIDES.get(architecture, set())
    assert set(weights_below(model, None, first, with_layer=False)) == expected


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"albert"}))
def test_the_output_of_a_layer_depends_on_it_too_and_on_nothing_above(architecture):
    model = make(architecture)
    first, second = encoder_layers(model, "freeze")
    found = set(weights_below(model, None, first, with_layer=True))
    names = {id(weight): name for name, weight in model.named_parameters()}
    in_first, in_second = ({names[id(weight)] for weight in layer.parameters()} for layer in (first, second))
    expected = embeddings(model) | BESIDES.get(architecture, set()) | SHARED.get(architecture, set()) | in_first
    assert found == expected
    assert not found & in_second


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"albert"}))
def test_the_depth_of_every_parameter(architecture):
    model = make(architecture)
    found = depths(model, None, "layerwise_lr_decay")
    assert list(found) == [name for name, _ in model.named_parameters()]
    lowest = {name for name, depth in found.items() if depth == 0}
    assert lowest == embeddings(model) | BESIDES.get(architecture, set()) | SHARED.get(architecture, set())
    for depth, layer in enumerate(encoder_layers(model, "freeze"), 1):
        weights = {id(weight) for weight in layer.parameters()}
        assert {found[name] for name, weight in model.named_parameters() if id(weight) in weights} == {depth}
    tied = model.get_output_embeddings().weight
    head = {name for name, depth in found.items() if depth == 3}
    assert head
    assert all(model.get_parameter(name) is not tied for name in head)


def test_asking_changes_nothing():
    model = make("bert").train()
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    generator = torch.get_rng_state()
    depths(model, None, "layerwise_lr_decay")
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_layers_that_share_their_weights_are_refused():
    message = "^freeze: received a value for single layers, and the 2 layers of AlbertForMaskedLM share their weights"
    with pytest.raises(ValueError, match=message):
        encoder_layers(make("albert"), "freeze")


def test_layers_that_are_not_a_list_are_refused():
    model = make("bert")
    model.config.num_hidden_layers = 1
    with pytest.raises(ValueError, match="2 modules look like a layer, and its config says 1"):
        encoder_layers(model, "layerwise_lr_decay")
