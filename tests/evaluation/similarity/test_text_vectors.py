from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_model

from mlm_recipes.evaluation.probes.features import LAYERS, layer_means
from mlm_recipes.evaluation.similarity.text_vectors import text_vectors

TEXTS = ["the soul", "of man", "and the universe is change; our life is what our thoughts make it", "the soul"]


def features_of(model, tokenizer, seen=None):
    """The features of all rows in their order, as a trainer returns them."""

    def features(rows):
        indices, means = layer_means(model, rows, tokenizer)
        if seen is not None:
            seen.append(rows)
        found = np.empty_like(means)
        found[:, indices] = means
        return found

    return features


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert", "roberta"])
def test_a_vector_is_the_mean_of_the_last_layer_of_the_text_alone(architecture, tokenizer):
    model = make_model(architecture, tokenizer).eval()
    found = text_vectors(features_of(model, tokenizer), tokenizer, TEXTS, 32)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            alone = model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=2e-5)
    assert found.shape == (4, 32)


def test_equal_texts_are_computed_once(tokenizer, tiny_bert):
    seen = []
    texts = [f"the soul {'of man ' * (n % 7)}" for n in range(40)]
    found = text_vectors(features_of(tiny_bert, tokenizer, seen), tokenizer, texts, 32)
    assert [len(rows) for rows in seen] == [7]
    assert all((found[n] == found[n % 7]).all() for n in range(40))


def test_a_long_text_is_cut_off(tokenizer, tiny_bert):
    seen = []
    long = "the soul of man " * 50
    text_vectors(features_of(tiny_bert, tokenizer, seen), tokenizer, [long], 16)
    assert [len(row) for row in seen[0]] == [16]


def test_it_is_the_last_layer(tokenizer):
    ways = np.arange(len(LAYERS))[:, None, None] * np.ones((1, 2, 4))
    found = text_vectors(lambda rows: ways, tokenizer, ["soul", "man"], 8)
    assert (found == LAYERS.index("last layer")).all()
