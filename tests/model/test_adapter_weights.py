"""An adapter's files: read into the model again, merged into its base, and refused if they do not fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_bert
from safetensors.torch import load_file, save_file
from same_run import assert_close, loss_bound
from transformers import AutoModelForMaskedLM

from mlm_recipes import load_model, load_tokenizer
from mlm_recipes.data.tokenizer import load_or_train_tokenizer
from mlm_recipes.model.adapter_weights import load_adapter_weights
from mlm_recipes.model.lora import add_lora, has_adapter

peft = pytest.importorskip("peft")

IDS = {"input_ids": torch.tensor([[101, 200, 103, 300, 102]])}


@pytest.fixture
def adapted(checkpoint, tmp_path):
    """A model with an adapter that changes it, and the folder that this is saved in."""
    model = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    add_lora(model, r=4, base=str(checkpoint))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    return model, tmp_path / "adapter"


def logits(model):
    with torch.no_grad():
        return model.eval()(**IDS).logits


def test_it_is_read_into_a_model_of_the_same_shape(adapted, tokenizer):
    model, folder = adapted
    other = make_bert(tokenizer)
    add_lora(other, r=4)
    names = load_adapter_weights(other, folder)
    assert len(names) == 24
    assert torch.equal(logits(other), logits(model))
    assert sum(weight.requires_grad for weight in other.parameters()) == 24


@pytest.mark.parametrize("changes", [{"r": 8}, {"r": 4, "targets": ["query"]}, {"r": 4, "new_weights": ["cls."]}])
def test_one_of_another_shape_is_refused(adapted, tokenizer, changes):
    other = make_bert(tokenizer)
    if "new_weights" in changes:
        changes = {"r": 4, "new_weights": [name for name, _ in other.named_parameters() if name.startswith("cls.")]}
    add_lora(other, **changes)
    with pytest.raises(ValueError, match=r"the adapter in .* does not fit the model"):
        load_adapter_weights(other, adapted[1])


def test_one_with_fewer_layers_is_refused(checkpoint, tokenizer, tmp_path):
    few, many = AutoModelForMaskedLM.from_pretrained(checkpoint), make_bert(tokenizer)
    add_lora(few, r=4, targets=["query"])
    few.save_pretrained(tmp_path / "few")
    add_lora(many, r=4)
    with pytest.raises(ValueError, match=r"does not fit the model \(bert\.encoder\."):
        load_adapter_weights(many, tmp_path / "few")


def test_a_folder_without_a_tokenizer_has_that_of_its_model(adapted, checkpoint):
    _, folder = adapted
    assert load_or_train_tokenizer(folder, None).get_vocab() == load_tokenizer(checkpoint).get_vocab()


def test_peft_reads_what_was_saved(adapted, checkpoint, monkeypatch):
    model, folder = adapted
    base = AutoModelForMaskedLM.from_pretrained(checkpoint)
    # peft asks for it, and transformers warns that it has another name now.
    monkeypatch.setattr(type(base), "is_gradient_checkpointing", False, raising=False)
    read = peft.PeftModel.from_pretrained(base, str(folder))
    assert_close(logits(read), logits(model), loss_bound(model))


def test_a_folder_that_holds_a_model_and_its_adapter_is_both(adapted, checkpoint, tokenizer):
    """transformers loads the two together if peft is there."""
    model, folder = adapted
    for path in checkpoint.iterdir():
        shutil.copy(path, folder)
    found = load_model(folder, tokenizer)
    assert not has_adapter(found)
    assert all(weight.requires_grad for weight in found.parameters())
    assert_close(logits(found), logits(model), loss_bound(model))


def test_an_adapter_of_itself_is_refused(adapted, tokenizer):
    _, folder = adapted
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(folder)}))
    with pytest.raises(ValueError, match=r"which is an adapter of it in turn"):
        load_model(folder, tokenizer)


def test_the_adapter_of_another_model_and_a_damaged_one_are_refused(adapted, tokenizer):
    _, folder = adapted
    held = load_file(folder / "adapter_model.safetensors")
    save_file({name: weight[:, :2].contiguous() for name, weight in held.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"the adapter in .* does not fit the model"):
        load_model(folder, tokenizer)
    (folder / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is damaged or incomplete"):
        load_model(folder, tokenizer)
    save_file({name: weight * float("nan") for name, weight in held.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"weights that are NaN or infinite"):
        load_model(folder, tokenizer)


def test_random_weights_in_the_shape_of_its_model_have_no_adapter(adapted, tokenizer):
    model = load_model(adapted[1], tokenizer, from_scratch=True)
    assert not has_adapter(model)
    assert model.num_parameters() == make_bert(tokenizer).num_parameters()
