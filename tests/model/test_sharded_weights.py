"""Weights are copied by name; test_sharded_trainer.py has some that several processes share."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bert

from mlm_recipes.model.sharded_weights import copy_weights, weights_of


def test_a_model_gets_all_weights_of_another(tokenizer):
    source, target = make_bert(tokenizer), make_bert(tokenizer)
    torch.nn.init.normal_(source.bert.embeddings.word_embeddings.weight)
    torch.nn.init.normal_(source.cls.predictions.bias)
    weights = weights_of(source, keep=True)
    assert weights["cls.predictions.decoder.weight"] is weights["bert.embeddings.word_embeddings.weight"]
    assert copy_weights(target, weights.items()) == ([], [])
    for name, weight in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], weight), name
    assert weights_of(source, keep=False) == {}


def test_a_tied_weight_is_not_missing_but_others_are(tokenizer):
    model = make_bert(tokenizer)
    weights = weights_of(model, keep=True)
    del weights["cls.predictions.decoder.weight"], weights["bert.encoder.layer.0.output.dense.bias"]
    missing, unknown = copy_weights(model, [*weights.items(), ("what", torch.ones(1))])
    assert (missing, unknown) == (["bert.encoder.layer.0.output.dense.bias"], ["what"])


def test_another_shape_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"received cls\.predictions\.bias of the shape \(1,\). Accepted: \(\d+,\)"):
        copy_weights(make_bert(tokenizer), [("cls.predictions.bias", torch.ones(1))])
