"""Whatever keeps a model or its tokenizer from loading is one sentence with a next step."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import make_bert
from transformers import AutoTokenizer

from mlm_recipes import cli, load_model, load_tokenizer
from mlm_recipes.model.load_errors import explained
from mlm_recipes.sources.missing_packages import MissingPackageError


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def shard(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


FAULTS = {
    "truncated weights": (lambda f: truncate(f / "model.safetensors"), "model.safetensors is damaged or incomplete"),
    "weights that are none": (lambda f: (f / "model.safetensors").write_bytes(b"<html>" * 99), "is damaged or incom"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "it has 0 bytes"),
    "git-lfs": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "is a pointer of git-lfs, of 56 bytes.*git lfs pull",
    ),
    "a missing shard": (shard, "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names"),
    "no JSON": (lambda f: (f / "config.json").write_text("{a"), "config.json is not JSON: .* line 1 column 2"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), "config.json contains no object"),
    "not UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "config.json is not JSON"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{a"), "tokenizer.json is not JSON"),
    "a hollow tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "the tokenizer of .* cannot be loaded"),
    "no model_type": (lambda f: change(f, model_type=None), "has a config.json without model_type"),
    "an unknown model_type": (
        lambda f: change(f, model_type="bertt"),
        "the model_type 'bertt', which transformers .* does not know. Did you mean 'bert'",
    ),
    "no such head": (lambda f: change(f, model_type="gpt2"), "'gpt2', for which transformers .* has no masked"),
    "another modality": (lambda f: change(f, model_type="vit"), "'vit', for which transformers .* has no masked"),
    "heads that do not divide": (lambda f: change(f, num_attention_heads=3), "is not a multiple of the number of att"),
    "an unknown activation": (lambda f: change(f, hidden_act="lorem"), r"language modelling \(KeyError: 'lorem'\)"),
    "a value of another type": (lambda f: change(f, hidden_size="big"), "'hidden_size' expected int, got str"),
    "more positions": (
        lambda f: change(f, max_position_embeddings=99),
        "position_embeddings.weight has 128 x 32 instead of 99 x 32.*Restore the config.json",
    ),
    "quantized (8 bit)": (
        lambda f: change(f, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        r"has quantized weights \(quant_method bitsandbytes\), which cannot be trained",
    ),
    "quantized (GPTQ)": (
        lambda f: change(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        r"has quantized weights \(quant_method gptq\)",
    ),
    "flash attention": (
        lambda f: change(f, _attn_implementation="flash_attention_2"),
        "needs a package that is not installed here: flash_attn. Accepted: a config.json without attn_implementation",
    ),
    "a link that leads nowhere": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").symlink_to("nowhere")),
        "has a link that leads nowhere: .*model.safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault, checkpoint, tmp_path, recwarn):
    spoil, says = FAULTS[fault]
    shutil.copytree(checkpoint, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"^(model|tokenizer): .*{says}") as caught:
        load_model("model", load_tokenizer("model"))
    assert " Accepted: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_was_resized_without_its_head_is_named(tokenizer, tmp_path, caplog):
    model = make_bert(tokenizer)
    model.bert.resize_token_embeddings(len(tokenizer) + 2)
    model.save_pretrained(tmp_path / "resized")
    tokenizer.save_pretrained(tmp_path / "resized")
    says = "predictions.bias has 1000 instead of 1002.*resize_token_embeddings.*on the whole model, not on its encoder"
    with pytest.raises(ValueError, match=says):
        load_model("resized", tokenizer)
    assert "REPORT" not in caplog.text


def test_a_file_that_may_not_be_read_is_named(checkpoint, tokenizer, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "model")
    denied = PermissionError(13, "Permission denied", "model/model.safetensors")
    says = "model/model.safetensors may not be read here.*Change its permissions"
    with pytest.raises(ValueError, match=says) as caught, explained("model", Path("model")):
        raise denied
    assert caught.value.__cause__ is denied


def test_a_lack_of_memory_is_no_fault_of_the_model(checkpoint):
    says = r"'bert' does not fit into this machine's memory; its weights have [\d,]+ bytes"
    with pytest.raises(ValueError, match=says), explained("bert", checkpoint):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


# Packages


@pytest.mark.parametrize(
    ("said", "package"),
    [
        ("You need to install loremecab to use MecabTokenizer. See https://example.org", "loremecab"),
        ("You need to install lojieba to use RoFormerTokenizer. See https://example.org", "lojieba"),
        ("You need to install lacremoses to use XLMTokenizer.", "lacremoses"),
        ("`liktoken` is required to read a `liktoken` file. Install it with `pip install liktoken`.", "liktoken"),
    ],
)
def test_a_tokenizers_missing_package_is_named(said, package, checkpoint, monkeypatch):
    def refuse(*given, **named):
        raise ImportError(said)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(MissingPackageError, match=rf"^tokenizer: the tokenizer of .* install {package}$") as caught:
        load_tokenizer(checkpoint)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.fixture
def only_sentencepiece(tokenizer, tmp_path, monkeypatch):
    """A model whose tokenizer is one SentencePiece file, and a machine without the package that reads it."""
    folder = tmp_path / "spm"
    make_bert(tokenizer).save_pretrained(folder)
    (folder / "spm.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    for name in ("sentencepiece", "tiktoken"):
        monkeypatch.setitem(sys.modules, name, None)
    here = {"sentencepiece": False, "protobuf": True}
    monkeypatch.setattr("mlm_recipes.model.load_errors.is_installed", here.__getitem__)
    return here


def test_a_sentencepiece_file_needs_sentencepiece_and_not_tiktoken(only_sentencepiece, caplog):
    with pytest.raises(MissingPackageError, match=r"only a SentencePiece file, needs .*: sentencepiece\. ") as caught:
        load_tokenizer("spm")
    assert "tiktoken" not in str(caught.value) + caplog.text


def test_a_sentencepiece_file_needs_protobuf_too(only_sentencepiece):
    only_sentencepiece["protobuf"] = False
    with pytest.raises(MissingPackageError, match=r"not installed here: sentencepiece, protobuf"):
        load_tokenizer("spm")


def test_a_tokenizer_that_tiktoken_reads_is_not_taken_for_one(only_sentencepiece, tmp_path):
    (tmp_path / "spm" / "spm.model").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(ValueError, match=r"tiktoken"):
        load_tokenizer("spm")


def test_on_the_command_line_it_is_one_line_and_code_2(checkpoint, tmp_path, short_text, capsys):
    shutil.copytree(checkpoint, tmp_path / "model")
    truncate(tmp_path / "model" / "model.safetensors")
    assert cli.main(["train", "adapt", "--model", "./model", "--corpus", str(short_text)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: model: model/model.safetensors is damaged or incomplete")
    assert len(said.splitlines()) == 1
