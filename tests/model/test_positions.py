from __future__ import annotations

import pytest
import torch
from architectures import SIZE, make
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.model.loading import load_model
from mlm_recipes.model.positions import _longest, first_position, max_positions, takes, usable_length


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


@pytest.mark.parametrize(
    ("architecture", "first", "limit"),
    [
        ("nystromformer", 2, 510),  # the config's own default, and two embeddings more in the table
        ("yoso", 2, 96),
        ("mra", 2, 96),
        ("longformer", 2, 96),
        ("ibert", 2, 96),
        ("bart", 2, 1024),
        ("electra", 0, 96),
        ("roformer", 0, 96),
    ],
)
def test_the_model_itself_shows_its_first_position_and_its_limit(architecture, first, limit):
    size = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    size = size if architecture == "bart" else SIZE
    if architecture not in ("nystromformer", "bart"):
        size = size | {"max_position_embeddings": limit}
    if architecture in ("longformer", "ibert"):
        size = size | {"max_position_embeddings": limit + 2, "pad_token_id": 1}
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, vocab_size=120, **size))
    assert (first_position(model), max_positions(model)) == (first, limit)
    assert takes(model, limit)
    assert not takes(model, limit + 1)


def _take_at_most(model, length):
    """Let each layer fail on longer rows, as one with a bias for each distance does."""
    for layer in model.bert.encoder.layer:
        layer.register_forward_pre_hook(
            lambda module, args: (args[0] + torch.zeros(1, length, 1)[:, : len(args[0][0])],)
        )


def test_a_limit_that_shows_only_when_it_is_tried(caplog):
    model = BertForMaskedLM(BertConfig(vocab_size=120, max_position_embeddings=64, **SIZE))
    model._supports_attention_backend = False
    _take_at_most(model, 40)
    assert max_positions(model) == 64
    with caplog.at_level("INFO", logger="mlm_recipes"):
        assert [usable_length(None, model) for _ in range(2)] == [40, 40]
    assert caplog.text.count("max_length is 40, since this model takes no longer rows.") == 1
    assert max_positions(model) == 40
    with pytest.raises(ValueError, match=r"max_length: received 41\. Accepted: 3 to 40"):
        usable_length(41, model)
    assert usable_length(40, model) == 40


def test_a_buffer_of_positions_that_is_shorter_than_the_table():
    model = BertForMaskedLM(BertConfig(vocab_size=120, max_position_embeddings=64, **SIZE))
    model.bert.embeddings.position_ids = torch.arange(50)[None]
    for wrong in (64, 51):
        with pytest.raises(ValueError, match=f"max_length: received {wrong}. Accepted: 3 to 50"):
            usable_length(wrong, model)
    assert usable_length(None, model) == 50


def test_a_table_that_was_resized_is_asked_again():
    model = BertForMaskedLM(BertConfig(vocab_size=120, max_position_embeddings=64, **SIZE))
    assert max_positions(model) == 64
    model.bert.embeddings.position_embeddings = torch.nn.Embedding(32, 32)
    assert max_positions(model) == 32


@pytest.mark.parametrize("limit", [0, 1, 3, 509, 510, 511, 512])
def test_the_longest_row_is_found_in_few_trials(limit):
    tried = []
    assert _longest(lambda length: tried.append(length) or length <= limit, 512) == limit
    assert len(tried) <= 20


def test_a_long_row_costs_only_the_embeddings():
    """The layers of a model with transformers' attention take any length, so none is run."""
    model, ran = make("modernbert"), []
    model.model.layers[0].register_forward_hook(lambda *args: ran.append(1))
    assert takes(model, 4000)
    assert not ran


def test_a_model_that_takes_no_row_says_why():
    """X-MOD wants a language, which its config names."""
    xmod = AutoModelForMaskedLM.from_config(AutoConfig.for_model("xmod", vocab_size=120, **SIZE))
    why = r"model: received XmodForMaskedLM, which takes no row of tokens \(Input language unknown\. Please call"
    with pytest.raises(ValueError, match=why):
        usable_length(None, xmod)
    xmod.config.default_language = "en_XX"
    assert usable_length(None, xmod) == 512 - 2
