from __future__ import annotations

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import make_bert
from safetensors import safe_open
from transformers import set_seed

from mlm_recipes import load_model, load_tokenizer
from mlm_recipes.evaluation.fill_mask import fill_mask
from mlm_recipes.model.loading import has_weights
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.sources.model_folder import model_folder


def test_mini_random_is_a_modernbert_with_random_weights(tokenizer):
    set_seed(1)
    model = load_model("mini-random", tokenizer)
    config = model.config
    assert type(model).__name__ == "ModernBertForMaskedLM"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (4, 256, 512)
    assert (config.vocab_size, config.pad_token_id, config.cls_token_id, config.sep_token_id) == (1000, 0, 101, 102)
    set_seed(1)
    again = load_model("mini-random", tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    set_seed(2)
    other = load_model("mini-random", tokenizer)
    assert not torch.equal(model.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_mini_is_complete_and_small():
    folder = model_folder("mini")
    files = {path.name for path in folder.iterdir()}
    assert files == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md")
    }
    kept = ("model.safetensors", "tokenizer.json")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16] for name in kept}
    assert sums == {
        "model.safetensors": "c8fcc9fa53138929",
        "tokenizer.json": "3ea31884b895e252",
    }  # figures in docs hold for these
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12_000_000
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    _, front, card = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "fill-mask"
    assert "Limits" in card
    shape, random = (json.loads((model_folder(name) / "config.json").read_text()) for name in ("mini", "mini-random"))
    assert {name: shape[name] for name in random} == random


def test_mini_knows_english():
    tokenizer = load_tokenizer("mini")
    model = load_model("mini", tokenizer)
    assert len(tokenizer) == model.config.vocab_size == 8192
    assert model.dtype == torch.float32
    prompts = ["He opened the [MASK] and went in.", "She [MASK] not know what to say.", "She burst into [MASK]."]
    guesses = [guess[0][0] for guess in fill_mask(model, tokenizer, prompts)]
    assert [token for token, _ in guesses] == ["door", "did", "tears"]
    assert all(probability > 0.3 for _, probability in guesses)


def test_a_checkpoint_keeps_its_weights_unless_told_otherwise(checkpoint, tokenizer, tiny_bert):
    assert has_weights(checkpoint)
    loaded = load_model(checkpoint, tokenizer)
    for name, weight in tiny_bert.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    set_seed(5)
    scratch = load_model(checkpoint, tokenizer, from_scratch=True)
    assert scratch.config.hidden_size == 32
    assert not torch.equal(scratch.get_input_embeddings().weight, loaded.get_input_embeddings().weight)


def test_a_model_saved_in_half_precision_is_trained_in_float32(checkpoint, tokenizer, tmp_path, tiny_bert):
    tiny_bert.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert load_model(tmp_path / "half", tokenizer).dtype == torch.float32


def test_a_folder_without_weights_is_not_filled_with_random_ones(checkpoint, tokenizer, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="has a config but no usable weights"):
        load_model(tmp_path / "copy", tokenizer)
    load_model(tmp_path / "copy", tokenizer, from_scratch=True)


@pytest.mark.parametrize("other", ["tf_model.h5", "onnx/model.onnx", "model.safetensors.incomplete"])
def test_weights_that_cannot_be_converted_get_no_command_that_would_fail(checkpoint, tokenizer, tmp_path, other):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    (tmp_path / "copy" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "copy" / other).touch()
    with pytest.raises(ValueError, match=f"no usable weights, only {other}") as refused:
        load_model(tmp_path / "copy", tokenizer)
    assert "python -c" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_run_that_diverged_are_refused_and_named(checkpoint, tokenizer, tmp_path, value):
    broken = load_model(checkpoint, tokenizer)
    broken.bert.encoder.layer[0].attention.self.query.weight.data[0, 0] = value
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(ValueError, match=r"NaN or infinite \(bert\.encoder\.layer\.0\.\S+query\.weight\)"):
        load_model(tmp_path / "broken", tokenizer)


def test_a_pickle_is_not_loaded_as_weights(checkpoint, tokenizer, tmp_path, tiny_bert):
    shutil.copytree(checkpoint, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(tiny_bert.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert not has_weights(tmp_path / "old")
    with pytest.raises(
        ValueError, match=r"only pytorch_model.bin, which can run code.*as safetensors.*save_pretrained"
    ):
        load_model(tmp_path / "old", tokenizer)
    load_model(tmp_path / "old", tokenizer, from_scratch=True)


def test_more_tokens_than_embeddings_is_refused(tokenizer, tmp_path, checkpoint):
    make_bert(tokenizer, vocab_size=500).save_pretrained(tmp_path / "small")
    with pytest.raises(
        ValueError, match=r"500 token embeddings, and its tokenizer has ids up to 999\. Accepted: 1000 or more"
    ):
        load_model(tmp_path / "small", tokenizer)


def test_a_config_of_another_task_is_refused(tokenizer, tmp_path, checkpoint):
    shutil.copytree(checkpoint, tmp_path / "gpt")
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8}')
    with pytest.raises(ValueError, match=r"'gpt2', for which transformers .* has no masked-language-modelling head"):
        load_model(tmp_path / "gpt", tokenizer)


def test_the_loss_is_a_sum_divided_once():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 11, generator=generator, requires_grad=True)
    labels = torch.tensor([[1, -100, 3, -100, 5], [-100, -100, 2, -100, -100]])
    expected = torch.nn.functional.cross_entropy(logits.double().view(-1, 11), labels.view(-1))
    whole = masked_lm_loss(SimpleNamespace(logits=logits), labels)
    assert whole.dtype == torch.float64  # else its rounding would tell one split of the batch from another
    bound = rounding_bound(11)  # the softmax is in the dtype of the logits; the sum over tokens in float64
    assert whole.item() == pytest.approx(expected.item(), rel=bound)
    halves = [
        masked_lm_loss(SimpleNamespace(logits=logits[i : i + 1]), labels[i : i + 1], num_items_in_batch=4)
        for i in (0, 1)
    ]
    assert sum(halves).item() == pytest.approx(expected.item(), rel=bound)


def test_a_batch_without_labels_has_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 7, requires_grad=True)
    loss = masked_lm_loss(SimpleNamespace(logits=logits), torch.full((1, 3), -100), torch.tensor(0))
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()
