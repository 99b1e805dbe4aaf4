from __future__ import annotations

import pytest
import torch
from architectures import SIZE, make
from conftest import make_bert
from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

from mlm_recipes import MLMConfig, MLMTrainer, load_model, load_tokenizer
from mlm_recipes.model.longer_positions import extend_positions
from mlm_recipes.model.positions import first_position, max_positions
from mlm_recipes.model.sample_rows import sample_rows

RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_position_embeddings": 32}
LEARNED = ["bert", "roberta", "distilbert", "electra", "xlm-roberta", "albert", "mpnet", "deberta-v2"]


def logits(model, row):
    with torch.no_grad():
        return model.eval()(input_ids=row[None]).logits


def random_model(architecture, **changes):
    set_seed(0)
    values = SIZE | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2} | changes
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, vocab_size=120, **values)).eval()


@pytest.mark.parametrize("architecture", LEARNED)
def test_rows_of_the_former_length_give_the_same_logits_and_longer_ones_are_taken(architecture, caplog):
    model = make(architecture)
    with caplog.at_level("INFO", logger="mlm_recipes"):
        longer = extend_positions(model, 100)
    assert "32 -> 100 positions" in caplog.text
    assert "arXiv:2004.05150" in caplog.text
    assert (max_positions(model), max_positions(longer)) == (32, 100)
    assert first_position(longer) == first_position(model)
    (row,) = sample_rows(model, [32])
    assert torch.equal(logits(model, row), logits(longer, row))
    assert logits(longer, sample_rows(model, [100])[0]).shape == (1, 100, 120)


@pytest.mark.parametrize(("architecture", "first"), [("bert", 0), ("roberta", 2)])
def test_the_table_is_copied_end_to_end_and_what_is_before_it_once(architecture, first):
    model = make(architecture)
    table = model.base_model.embeddings.position_embeddings.weight
    longer = extend_positions(model, 75)
    found = longer.base_model.embeddings.position_embeddings.weight
    assert len(found) == 75 + first
    assert torch.equal(found[:first], table[:first])
    for place in range(75):
        assert torch.equal(found[first + place], table[first + place % 32]), place
    weights = dict(model.named_parameters())
    for name, weight in longer.named_parameters():
        assert "position" in name or torch.equal(weight, weights[name]), name


def test_the_extended_model_is_saved_and_loads_at_its_new_length(tmp_path, tokenizer):
    model = make_bert(tokenizer)
    before = tokenizer.model_max_length
    try:
        longer = extend_positions(model, 300, tokenizer)
        assert tokenizer.model_max_length == max(300, before)
    finally:
        tokenizer.model_max_length = before
    longer.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert again.config.max_position_embeddings == 300
    (row,) = sample_rows(model, [300])
    assert torch.equal(logits(again, row), logits(longer, row))


def test_a_rotary_base_is_raised_where_the_whole_row_is_seen(caplog):
    model = make("modernbert")
    bases = {kind: values["rope_theta"] for kind, values in model.config.rope_parameters.items()}
    with caplog.at_level("INFO", logger="mlm_recipes"):
        longer = extend_positions(model, 128)
    now = {kind: values["rope_theta"] for kind, values in longer.config.rope_parameters.items()}
    # A head has 16 dimensions, and rows are four times as long.
    assert now == {"full_attention": round(bases["full_attention"] * 4 ** (16 / 14)), "sliding_attention": 10_000}
    assert bases == {kind: values["rope_theta"] for kind, values in model.config.rope_parameters.items()}
    assert f"160,000 -> {now['full_attention']:,.0f} in full_attention" in caplog.text
    assert "sliding_attention keeps 10,000" in caplog.text
    assert longer.config.max_position_embeddings == 128
    (row,) = sample_rows(model, [32])
    assert not torch.equal(logits(model, row), logits(longer, row))
    slow = longer.model.rotary_emb.full_attention_inv_freq[-1] / model.model.rotary_emb.full_attention_inv_freq[-1]
    assert float(slow) == pytest.approx(1 / 4, rel=1e-4)  # turns as far over 128 tokens as it did over 32
    local = [each.model.rotary_emb.sliding_attention_inv_freq for each in (model, longer)]
    assert torch.equal(*local)


@pytest.mark.parametrize(
    ("architecture", "changes", "base"),
    [
        ("eurobert", {"max_position_embeddings": 32}, lambda config: config.rope_parameters["rope_theta"]),
        # ESM stores its frequencies beside its weights.
        (
            "esm",
            {"max_position_embeddings": 32, "position_embedding_type": "rotary", "mask_token_id": 4},
            lambda config: config.rope_theta,
        ),
    ],
)
def test_the_one_base_of_all_layers_is_raised(architecture, changes, base, tmp_path):
    model = random_model(architecture, **changes)
    longer = extend_positions(model, 128)
    assert base(longer.config) == round(base(model.config) * 4 ** (16 / 14))
    longer.save_pretrained(tmp_path)
    (row,) = sample_rows(model, [128])
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again, row), logits(longer, row))


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("deberta-v2", RELATIVE | {"position_buckets": 8, "position_biased_input": False}),
        ("deberta-v2", RELATIVE | {"position_biased_input": False}),
        ("deberta", RELATIVE | {"position_biased_input": False}),
        ("deberta", RELATIVE),
        ("roformer", {"max_position_embeddings": 32}),
    ],
)
def test_relative_and_computed_positions_need_no_new_weights(architecture, changes):
    model = random_model(architecture, **changes)
    longer = extend_positions(model, 100)
    (row,) = sample_rows(model, [32])
    assert torch.equal(logits(model, row), logits(longer, row))
    assert max_positions(longer) == 100
    learned = [name for name, weight in model.named_parameters() if weight.shape != longer.get_parameter(name).shape]
    assert [name for name in learned if "position_embeddings" not in name and "embed_positions" not in name] == []


def test_random_weights_are_only_made_in_another_size(caplog):
    model = make("modernbert")
    with caplog.at_level("INFO", logger="mlm_recipes"):
        longer = extend_positions(model, 128, random_weights=True)
    assert "its weights are random, and nothing was copied" in caplog.text
    assert longer.config.max_position_embeddings == 128
    assert longer.config.rope_parameters == model.config.rope_parameters
    bert = extend_positions(make("bert"), 64, random_weights=True)
    table = bert.bert.embeddings.position_embeddings.weight
    assert len(table) == 64
    assert not torch.equal(table[:32], table[32:])


def test_torchs_generator_stays_as_it_is():
    model = make("bert")
    set_seed(3)
    state = torch.random.get_rng_state()
    extend_positions(model, 64)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fewer_positions_are_refused_and_as_many_change_nothing(caplog):
    model = make("roberta")
    with pytest.raises(ValueError, match=r"extend_positions: received 31\. Accepted: more than 32.*--max_length 31"):
        extend_positions(model, 31)
    with caplog.at_level("INFO", logger="mlm_recipes"):
        assert extend_positions(model, 32) is model
    assert "has 32 positions already" in caplog.text


def test_positions_of_another_kind_are_refused_with_the_reason():
    size = {"attn_layers": ["local"] * 2, "attention_head_size": 16, "feed_forward_size": 32, "is_decoder": False}
    axial = {"axial_pos_shape": (8, 8), "axial_pos_embds_dim": (16, 16), "max_position_embeddings": 64}
    set_seed(0)
    config = AutoConfig.for_model("reformer", vocab_size=120, hidden_size=32, num_attention_heads=2, **size, **axial)
    with pytest.raises(ValueError, match=r"ReformerForMaskedLM cannot be extended to 100: .* Accepted: .*BERT"):
        extend_positions(AutoModelForMaskedLM.from_config(config), 100)
    scaled = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10_000.0}
    with pytest.raises(ValueError, match=r"scaled already \(rope_type yarn\)"):
        extend_positions(random_model("eurobert", max_position_embeddings=32, rope_parameters=scaled), 100)


def test_a_model_that_is_not_the_same_afterwards_is_refused(monkeypatch):
    """A class that computes something else from the number of its positions."""
    model = make("bert")
    model.bert.embeddings.LayerNorm.eps = 0.5  # as if it were a function of it
    with pytest.raises(ValueError, match="rows of the former length would give other logits"):
        extend_positions(model, 64)


def test_a_base_that_the_model_does_not_read_is_refused():
    model = random_model("eurobert", max_position_embeddings=32)
    kind = type(model.model.rotary_emb)
    fixed = kind.compute_default_rope_parameters
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kind, "compute_default_rope_parameters", staticmethod(lambda *args, **kwargs: fixed(model.config))
        )
        with pytest.raises(ValueError, match="do not depend on the base in its config"):
            extend_positions(model, 64)


@pytest.mark.slow
def test_load_model_extends_what_it_loads(checkpoint, tokenizer, caplog):
    before = tokenizer.model_max_length
    try:
        model = load_model(checkpoint, tokenizer, extend_positions=700)
        assert tokenizer.model_max_length == max(before, 700)
    finally:
        tokenizer.model_max_length = before
    assert max_positions(model) == 700
    mini = load_tokenizer("mini")
    assert load_model("mini", mini, extend_positions=2048).config.max_position_embeddings == 2048
    assert mini.model_max_length == 2048


def test_a_trainer_asks_for_a_model_object_that_is_extended(tokenizer, rows):
    args = MLMConfig(extend_positions=700, use_cpu=True, save_strategy="no")
    with pytest.raises(ValueError, match=r"extend_positions: received 700 with a model object that has 128 positions"):
        MLMTrainer(make_bert(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)
    longer = extend_positions(make_bert(tokenizer), 700)
    trainer = MLMTrainer(longer, args=args, train_dataset=rows, processing_class=tokenizer)
    assert trainer._max_length == 700
