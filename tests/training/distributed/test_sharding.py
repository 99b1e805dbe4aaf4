"""Which layers are sharded one by one."""

from __future__ import annotations

import pytest
from conftest import make_bert, make_model
from transformers import AlbertConfig, AlbertForMaskedLM

from mlm_recipes.training.distributed.sharding import separate_layers


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "mpnet", "roberta"])
def test_each_layer_is_sharded_by_itself(tokenizer, name):
    assert len(separate_layers(make_model(name, tokenizer))) == 2


def test_a_layer_that_shares_a_weight_is_left_to_the_root(tokenizer):
    model = make_bert(tokenizer)
    first, second = model.bert.encoder.layer
    assert separate_layers(model) == [first, second]
    second.output.dense.bias = first.output.dense.bias
    assert separate_layers(model) == []
    second.output.dense.bias = model.bert.embeddings.LayerNorm.bias
    assert separate_layers(model) == [first]


def test_layers_of_one_weight_are_one_layer():
    size = {"embedding_size": 8, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    model = AlbertForMaskedLM(AlbertConfig(vocab_size=50, num_hidden_layers=3, **size))
    assert len(separate_layers(model)) == 1
