from __future__ import annotations

import pytest
import torch
from transformers import IBertConfig, IBertForMaskedLM, PerceiverConfig, PerceiverForMaskedLM

from mlm_recipes import load_model
from mlm_recipes.model.embeddings import embedding_rows


def test_embeddings_that_are_no_torch_embedding_are_counted(tokenizer):
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = IBertForMaskedLM(IBertConfig(vocab_size=1000, max_position_embeddings=130, type_vocab_size=1, **size))
    assert not hasattr(model.get_input_embeddings(), "num_embeddings")
    assert embedding_rows(model) == 1000
    model.save_pretrained("ibert")
    assert embedding_rows(load_model("ibert", tokenizer)) == 1000


def test_latents_are_not_taken_for_tokens():
    size = {"num_latents": 8, "d_latents": 16, "d_model": 16, "num_blocks": 1, "num_self_attends_per_block": 1}
    config = PerceiverConfig(vocab_size=40, num_self_attention_heads=2, num_cross_attention_heads=2, **size)
    model = PerceiverForMaskedLM(config)
    assert len(model.get_input_embeddings()) == 8
    with pytest.raises(ValueError, match=r"PerceiverForMaskedLM has no table of token embeddings"):
        embedding_rows(model)


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), torch.nn.Identity()], ids=["linear", "identity"])
def test_a_model_without_a_table_is_refused(model):
    with pytest.raises(ValueError, match=r"has no table of token embeddings.*Accepted: an encoder"):
        embedding_rows(model)
