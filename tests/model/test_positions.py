from __future__ import annotations

import pytest
import torch
from architectures import make
from transformers import RobertaConfig, RobertaForMaskedLM

from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.model.loading import load_model
from mlm_recipes.model.positions import first_position, max_positions, usable_length


def test_the_longest_input_counts_robertas_offset(tiny_bert, tokenizer):
    assert max_positions(tiny_bert) == 128
    config = RobertaConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    roberta = RobertaForMaskedLM(config).eval()
    assert max_positions(roberta) == 32
    roberta(torch.full((1, 32), 5))  # and so many it takes
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.full((1, 33), 5))
    assert max_positions(load_model("mini-random", tokenizer)) == 1024


def test_usable_length(tiny_bert):
    assert usable_length(None, tiny_bert) == 128
    assert usable_length(None, tiny_bert, default=64) == 64
    assert usable_length(128, tiny_bert) == 128
    for wrong in (129, 2, 0, -1):
        with pytest.raises(ValueError, match=f"max_length: received {wrong}. Accepted: 3 to 128"):
            usable_length(wrong, tiny_bert)


@pytest.mark.parametrize(("architecture", "first"), [("bert", 0), ("roberta", 2), ("mpnet", 2), ("modernbert", 0)])
def test_first_position(architecture, first):
    assert first_position(make(architecture)) == first


def test_joined_row_restarts_positions_for_each_sequence():
    row = joined_row(torch.tensor([2, 0, 3]), first=2)
    assert row["position_ids"].tolist() == [[2, 3, 2, 3, 4]]
    assert row["cu_seq_lens_q"].tolist() == row["cu_seq_lens_k"].tolist() == [0, 2, 2, 5]
    assert row["max_length_q"] == row["max_length_k"] == 3
