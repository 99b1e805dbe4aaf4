from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, make

from mlm_recipes.evaluation.probes import feature_cache
from mlm_recipes.evaluation.probes.features import layer_means
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.sparse_prediction import unsupported

ROWS = [[5, 9, 11, 30, 6], [7, 8], [99, 17, 3, 21, 45, 60, 77, 31, 8, 12, 90, 4], [44], [50, 51, 52]]


def in_order(found):
    indices, vectors = found
    ordered = np.empty_like(vectors)
    ordered[:, indices] = vectors
    return ordered


@torch.no_grad()
def alone(model, row):
    states = model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states
    states = [state[0].mean(0) for state in states if state.shape == states[-1].shape]
    layers = states[1:] or states
    ways = [states[-1], torch.stack(layers[len(layers) // 2 :]).mean(0), torch.stack(states).mean(0)]
    return torch.stack(ways).numpy()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_features_are_those_of_each_text_alone(architecture):
    model = make(architecture)
    expected = np.stack([alone(model, row) for row in ROWS], axis=1)
    sparse = unsupported(model) is None
    for joined in (False, True):
        if joined and use_padding_free(model) is not None:
            continue
        found = in_order(layer_means(model, ROWS, None, sparse=sparse))
        assert found.shape == (3, len(ROWS), 32)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_several_processes_share_the_rows():
    model = make("bert")
    whole = in_order(layer_means(model, ROWS * 3, None))
    for processes in (2, 5):
        parts = [layer_means(model, ROWS * 3, None, process=n, processes=processes) for n in range(processes)]
        assert sorted(index for indices, _ in parts for index in indices) == list(range(15))
        for indices, vectors in parts:
            assert vectors.shape == (3, len(indices), 32) or not indices
            for place, index in enumerate(indices):
                assert np.allclose(vectors[:, place], whole[:, index], atol=1e-5)


def test_the_model_stays_as_it_was():
    model = make("bert").train()
    state = torch.random.get_rng_state()
    layer_means(model, ROWS, None)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_without_vectors_of_tokens_is_refused():
    model = make("bert")
    plain = model.forward
    model.forward = lambda output_hidden_states=None, **inputs: plain(**inputs)
    with pytest.raises(ValueError, match=r"^probe: BertForMaskedLM does not return a vector .*Accepted: an encoder"):
        layer_means(model, ROWS, None)


def test_features_are_kept_by_weights_and_rows():
    model, features = make("bert"), np.ones((3, 5, 32), np.float32)
    key = feature_cache.features_key(model, ROWS, "float32")
    assert key == feature_cache.features_key(make("bert"), ROWS, "float32")
    assert key != feature_cache.features_key(model, ROWS, "bf16")
    assert key != feature_cache.features_key(model, ROWS[:-1], "float32")
    assert feature_cache.features_key(model, [[1, 2], [3]], "") != feature_cache.features_key(model, [[1], [2, 3]], "")
    assert feature_cache.kept(key) is None
    feature_cache.keep(key, features)
    assert (feature_cache.kept(key) == features).all()
    feature_cache._place(key).write_bytes(b"damaged")
    assert feature_cache.kept(key) is None
