"""LoRA leaves a model its class, its outputs at first, and its fast paths; merged, it is the same function."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, batch_of, make
from conftest import make_bert
from same_run import assert_close, loss_bound
from transformers import AutoConfig, AutoModelForMaskedLM, EsmConfig, EsmForMaskedLM

from mlm_recipes.model.adapter_weights import merge_folder
from mlm_recipes.model.loading import load_model
from mlm_recipes.model.lora import (
    add_lora,
    base_fingerprint,
    chosen_layers,
    has_adapter,
    head_parts,
    linear_layers,
    merge_lora,
)
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.sparse_prediction import unsupported

peft = pytest.importorskip("peft")

#: What is called a linear layer in each architecture's encoder, without the head's.
LAYERS = {
    "bert": {"query", "key", "value", "dense"},
    "roberta": {"query", "key", "value", "dense"},
    "distilbert": {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"},
    "electra": {"embeddings_project", "query", "key", "value", "dense"},
    "xlm-roberta": {"query", "key", "value", "dense"},
    "albert": {"embedding_hidden_mapping_in", "query", "key", "value", "dense", "ffn", "ffn_output"},
    "mpnet": {"q", "k", "v", "o", "dense"},
    "modernbert": {"Wqkv", "Wi", "Wo"},
    "deberta-v2": {"query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj", "dense"},
}
#: ALBERT's layers share their weights, so it has one update for all of them.
HOW_MANY = {"electra": 13, "albert": 7, "modernbert": 8, "deberta-v2": 16}


def change(model):
    """Let the updates be something, as if they had been trained."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_of_the_encoder_has_an_update_and_the_rest_is_frozen(architecture):
    model = make(architecture)
    batch, _ = batch_of([9, 5], 0.3)
    kind, encoder, before, parameters = type(model), model.base_model, logits(model, batch), model.num_parameters()
    lora = add_lora(model, r=4)
    assert {name.rpartition(".")[2] for name in lora.layers} == LAYERS[architecture]
    assert len(lora.layers) == HOW_MANY.get(architecture, 12)
    assert type(model) is kind
    assert model.base_model is encoder
    assert torch.equal(logits(model, batch), before)  # B is zero
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(".lora_" in name for name in trained)
    assert lora.trained == sum(weight.numel() for weight in trained.values())
    assert lora.parameters == parameters
    model(**batch).logits.sum().backward()
    assert all(weight.grad is not None for weight in trained.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_merged_it_is_the_same_function_and_a_plain_model(architecture, tmp_path):
    model, plain = make(architecture), make(architecture)
    batch, _ = batch_of([9, 5], 0.3)
    before = logits(model, batch)
    add_lora(model, r=4)
    change(model)
    changed = logits(model, batch)
    assert (changed - before).abs().max() > 0.01
    merge_lora(model)
    assert not has_adapter(model)
    assert_close(logits(model, batch), changed, loss_bound(model))
    assert {name: weight.shape for name, weight in model.named_parameters()} == {
        name: weight.shape for name, weight in plain.named_parameters()
    }
    model.save_pretrained(tmp_path)
    assert_close(logits(AutoModelForMaskedLM.from_pretrained(tmp_path).eval(), batch), changed, loss_bound(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_fast_paths_stay_on(architecture):
    plain, adapted = make(architecture), make(architecture)
    add_lora(adapted, r=4)
    change(adapted)
    assert unsupported(adapted) is None
    assert use_padding_free(adapted) == use_padding_free(plain)


def test_a_layer_that_the_predictions_do_not_depend_on_has_no_update():
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    esm = EsmForMaskedLM(EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1, **size))
    assert any("contact_head" in name for name, _ in esm.base_model.named_modules())
    assert not any("contact_head" in name for name in linear_layers(esm))


def test_a_layer_whose_weight_is_used_without_calling_it_has_no_update(tokenizer):
    """An update of it would never be computed."""
    model = make_bert(tokenizer)
    layer = model.bert.encoder.layer[0].output
    dense = layer.dense

    class Bypassing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = dense

        def forward(self, x):
            return torch.nn.functional.linear(x, self.inner.weight, self.inner.bias)

    layer.dense = Bypassing()
    found = linear_layers(model)
    assert len(found) == 11
    assert not any("output.dense.inner" in name for name in found)


def test_a_model_is_not_changed_by_being_asked(tokenizer):
    model = make_bert(tokenizer)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    linear_layers(model, tokenizer)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frozen_layers_are_found_too_and_stay_frozen(architecture):
    model = make(architecture)
    expected = linear_layers(model)
    first, *others = expected
    for frozen in ([first], expected):
        for name in frozen:
            model.get_submodule(name).weight.requires_grad_(False)
        assert linear_layers(model) == expected
        assert [name for name in expected if not model.get_submodule(name).weight.requires_grad] == frozen
    assert others
    model.requires_grad_(False)
    assert linear_layers(model) == expected
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_means_the_layers_within_attention(architecture):
    layers = linear_layers(make(architecture))
    found = chosen_layers(layers, ["attention"])
    each = {"modernbert": 2, "deberta-v2": 6}.get(architecture, 4)
    assert len(found) == each * (1 if architecture == "albert" else 2)
    assert not any(name.endswith(("ffn", "lin1", "intermediate.dense", "Wi", "mlp.Wo")) for name in found)


def test_an_unknown_layer_is_refused_with_those_that_there_are(tokenizer):
    with pytest.raises(
        ValueError, match=r"lora_target_modules: received 'q_proj', and BertForMaskedLM.*: query, key, value, dense\."
    ):
        add_lora(make_bert(tokenizer), targets=["query", "q_proj"])


def test_a_model_without_linear_layers_is_refused():
    config = AutoConfig.for_model(
        "squeezebert", vocab_size=120, hidden_size=8, embedding_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, q_groups=1, k_groups=1, v_groups=1, post_attention_groups=1, intermediate_groups=1,
        output_groups=1,
    )  # fmt: skip
    model = AutoModelForMaskedLM.from_config(config)
    with pytest.raises(ValueError, match=r"peft: received 'lora' with SqueezeBert\w+, whose encoder has no linear"):
        add_lora(model)


#: The head's parts that can be trained whole: all but the vocabulary's projection and the bias beside it.
HEADS = {
    "bert": ["cls.predictions.transform"],
    "roberta": ["lm_head.dense", "lm_head.layer_norm"],
    "distilbert": ["vocab_transform", "vocab_layer_norm"],
    "electra": ["generator_predictions"],
    "xlm-roberta": ["lm_head.dense", "lm_head.layer_norm"],
    "albert": ["predictions.LayerNorm", "predictions.dense"],
    "mpnet": ["lm_head.dense", "lm_head.layer_norm"],
    "modernbert": ["head"],
    "deberta-v2": ["cls.predictions.transform"],
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_head_is_trained_and_saved_whole(architecture, tmp_path):
    model = make(architecture)
    inside = {id(weight) for weight in model.base_model.parameters()}
    missing = [name for name, weight in model.named_parameters() if id(weight) not in inside]
    assert head_parts(model, missing) == HEADS[architecture]
    assert head_parts(model, []) == []
    assert add_lora(model, r=2, new_weights=missing).head == tuple(HEADS[architecture])
    batch, _ = batch_of([9, 5], 0.3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "lora" not in name:
                weight.add_(0.1)
    changed = logits(model, batch)
    assert unsupported(model) is None
    model.save_pretrained(tmp_path)
    again = make(architecture)
    held = merge_folder(again, tmp_path)
    assert [name for name in missing if any(f"{name}.".startswith(f"{part}.") for part in HEADS[architecture])] == [
        name for name in missing if name in held
    ]
    weights = dict(make(architecture).named_parameters())
    assert not any(weights[name].any() for name in set(missing) - set(held)), "what is not trained must be zero"
    assert_close(logits(again, batch), changed, loss_bound(model))
    merge_lora(model)
    assert_close(logits(model, batch), changed, loss_bound(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_is_all_but_the_projection_to_the_vocabulary(architecture):
    model = make(architecture)
    assert head_parts(model) == HEADS[architecture]
    lora = add_lora(model, r=2, train_head=True)
    assert lora.head == tuple(HEADS[architecture])
    assert not any(weight.requires_grad for weight in model.get_output_embeddings().parameters())


def test_an_untied_projection_to_the_vocabulary_is_trained_only_if_it_is_new(tokenizer):
    model = make_bert(tokenizer, tie_word_embeddings=False)
    assert head_parts(model) == ["cls.predictions.transform"]
    lora = add_lora(model, r=2, train_head=True, new_weights=["cls.predictions.decoder.weight"])
    assert model.get_output_embeddings().weight.requires_grad
    assert any("decoder" in name or name == "cls" for name in lora.head)


def test_the_base_is_known_again_by_its_weights(tokenizer):
    """What is trained does not count, nor what a part that is trained whole has replaced."""
    model, other = make_bert(tokenizer), make_bert(tokenizer)
    with torch.no_grad():
        other.cls.predictions.transform.dense.weight.add_(1)  # another random head
    for each in (model, other):
        add_lora(each, r=2, train_head=True)
    found = base_fingerprint(model)
    assert len(found) == 16
    assert base_fingerprint(other) == found
    with torch.no_grad():
        for weight in other.parameters():
            if weight.requires_grad:
                weight.add_(1)
    assert base_fingerprint(other) == found
    layer = other.bert.encoder.layer[1].output
    for weight in (other.bert.embeddings.word_embeddings.weight, layer.dense.weight, other.cls.predictions.bias):
        before = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[3] += 1e-3
        assert base_fingerprint(other) != found
        with torch.no_grad():
            weight.copy_(before)
    assert base_fingerprint(other) == found


def test_the_update_has_no_copies_in_float32_under_autocast(tokenizer):
    """peft copies each layer's input to the dtype of the update, and autocast copies it back: the same numbers."""
    model = make_bert(tokenizer)
    add_lora(model, r=4)
    change(model)
    batch = {"input_ids": torch.tensor([[101, 200, 300, 102]])}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours = model(**batch).logits
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                assert module.cast_input_dtype_enabled is False
                module.cast_input_dtype_enabled = True
        assert torch.equal(model(**batch).logits, ours)


def test_the_built_in_model_has_updates_of_its_fused_layers(tokenizer):
    from mlm_recipes import load_tokenizer

    model = load_model("mini", load_tokenizer("mini"))
    lora = add_lora(model, r=16)
    assert {name.rpartition(".")[2] for name in lora.layers} == {"Wqkv", "Wo", "Wi"}
    assert str(lora).startswith(f"LoRA: r 16 on {len(lora.layers)} linear layers, ")
