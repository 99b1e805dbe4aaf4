from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from mlm_recipes.model.renamed_weights import load_renamed


def test_weights_are_loaded_by_the_names_that_they_were_saved_under(tmp_path):
    values = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = AutoConfig.for_model("esm", vocab_size=50, pad_token_id=1, mask_token_id=4, **values)
    model = AutoModelForMaskedLM.from_config(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    model.save_pretrained(tmp_path)
    other = AutoModelForMaskedLM.from_config(config)
    absent = other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False).missing_keys
    assert any("LayerNorm" in name for name in absent)
    load_renamed(other, tmp_path, absent)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_a_checkpoint_without_some_weights_is_refused(tmp_path, tokenizer):
    model = make_bert(tokenizer)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = "bert.encoder.layer.0.output.dense.bias"
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks weights of BertForMaskedLM: {lost}"):
        load_renamed(model, tmp_path, [lost])
