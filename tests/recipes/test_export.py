from __future__ import annotations

import importlib.util
import json
import re
import shutil

import pytest
from conftest import ROOT
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

from mlm_recipes import train
from mlm_recipes.cli import main
from mlm_recipes.model.onnx_export import onnx_logits
from mlm_recipes.recipes import export as module
from mlm_recipes.recipes.export import export

pytestmark = pytest.mark.slow  # each trains or exports a model

INSTALLED = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not INSTALLED, reason="the packages of the extra onnx are not installed")

VALUES = {
    "max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "save_strategy": "no",
    "general_corpus": "none", "eval_draws": 1, "pseudo_perplexity_tokens": 50, "prompts_compared": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoint, short_text):
    folder = tmp_path_factory.mktemp("export") / "run"
    train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), **VALUES)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return export(run, quantized="int8")


@needs_onnx
def test_the_folder_has_all_that_the_model_needs(run, exported):
    files = {path.name for path in (run / "onnx").iterdir()}
    assert files == {
        "model.onnx", "model_int8.onnx", "tokenizer.json", "tokenizer_config.json", "config.json", "export.json"
    }  # fmt: skip
    assert exported.folder == run / "onnx"
    assert exported.facts["tokenizer"] == "tokenizer.json"
    assert "There is no" not in str(exported)
    assert json.loads((run / "onnx/export.json").read_text("utf-8")) == exported.facts
    assert not [path for path in run.iterdir() if path.name.startswith(".export")]


@needs_onnx
def test_the_models_are_compared_on_the_held_out_rows(run, exported):
    models, checked = exported.facts["models"], exported.facts["checked"]
    assert checked["what"] == "held-out rows"
    assert checked["masked_tokens"] > 20
    assert models["torch"]["loss"] == pytest.approx(models["onnx"]["loss"], rel=checked["rounding"])
    after = json.loads((run / "metrics.json").read_text("utf-8"))["after"]["first_draw"]
    assert after["masked_tokens"] == checked["masked_tokens"]  # the masks of the run's own evaluation
    assert models["torch"]["loss"] == pytest.approx(after["loss"], rel=1e-2)  # which may be in bf16
    assert models["onnx"]["same_first_choice"] == 1
    assert models["onnx int8"]["megabytes"] < models["onnx"]["megabytes"]
    assert models["onnx int8"]["largest_difference"] > models["onnx"]["largest_difference"]
    said = str(exported)
    assert "onnx int8" in said
    assert f"Compared on {checked['masked_tokens']:,} masked tokens" in said


@needs_onnx
def test_the_page_s_code_runs(exported, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/export.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, flags=re.MULTILINE))
    assert imported == {"numpy", "onnxruntime", "tokenizers"}
    shutil.copytree(exported.folder, tmp_path / "runs/meditations/onnx")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert len(capsys.readouterr().out.split()) >= 3


@needs_onnx
@pytest.mark.slow
def test_other_answers_leave_no_file(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "onnx_logits", lambda path, names: lambda batch: -onnx_logits(path, names)(batch))
    assert main(["export", str(run), "--output", str(tmp_path / "wrong")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "has another first choice than the model in torch at" in said
    assert "It was removed" in said
    assert not (tmp_path / "wrong").exists()
    assert list(tmp_path.iterdir()) == []


def without_its_text(run, copy):
    """Return a copy of a run whose text is not where it was."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("onnx"))
    recipe = (copy / "recipe.yaml").read_text("utf-8")
    (copy / "recipe.yaml").write_text(re.sub("corpus: .*notes.txt", "corpus: /gone/notes.txt", recipe), "utf-8")
    return copy


@needs_onnx
@pytest.mark.slow
def test_without_the_text_its_prompts_are_used(run, tmp_path, caplog):
    copy = without_its_text(run, tmp_path / "copy")
    with caplog.at_level("WARNING", logger="mlm_recipes"):
        found = export(copy)
    assert "cannot be read again" in caplog.text
    assert found.facts["checked"]["what"] == "prompts of its metrics.json"
    assert found.facts["models"]["onnx"]["loss"] is None


@needs_onnx
@pytest.mark.slow
def test_a_folder_without_a_recipe_needs_prompts(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"prompts: .* is not a run folder.* --prompts FILE"):
        export(checkpoint, output=tmp_path / "new")
    (tmp_path / "prompts.txt").write_text("the [MASK] of man\nevery [MASK] is\n", "utf-8")
    found = export(checkpoint, output=tmp_path / "new", prompts=tmp_path / "prompts.txt")
    assert found.facts["checked"] | {"rounding": 0, "threads": 0} == {
        "what": "given prompts", "rows": 2, "masked_tokens": 2, "rounding": 0, "threads": 0
    }  # fmt: skip


@needs_onnx
@pytest.mark.slow
def test_prompts_that_the_model_cannot_fill_are_refused_before_the_export(checkpoint, tmp_path, caplog):
    caplog.set_level("INFO", logger="mlm_recipes")
    (tmp_path / "prompts.txt").write_text("the [MASK] of man\n" + "word " * 600 + "[MASK]\n", "utf-8")
    with pytest.raises(ValueError, match=r"^prompt: 'word word .*' has 6\d\d tokens\. Accepted: at most"):
        export(checkpoint, output=tmp_path / "new", prompts=tmp_path / "prompts.txt")
    assert "Exporting" not in caplog.text


@needs_onnx
@pytest.mark.slow
def test_a_run_without_text_and_prompts_is_not_called_something_else(run, tmp_path, caplog):
    copy = without_its_text(run, tmp_path / "copy")
    metrics = json.loads((copy / "metrics.json").read_text("utf-8"))
    metrics["after"]["fill_mask"] = []
    (copy / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    with pytest.raises(ValueError, match=r"the run's text cannot be read again \(corpus: .*\), and it has no prompts"):
        export(copy)
    assert "its prompts are used" not in caplog.text


@needs_onnx
@pytest.mark.slow
def test_a_tokenizer_in_python_is_told(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGV", "<mask>"]), "utf-8")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ids = {"pad_token_id": 1, "mask_token_id": 8, "max_position_embeddings": 40}
    EsmForMaskedLM(EsmConfig(vocab_size=9, **size, **ids)).save_pretrained(tmp_path / "esm")
    EsmTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "esm")
    (tmp_path / "prompts.txt").write_text("L A <mask> V\n", "utf-8")
    found = export(tmp_path / "esm", output=tmp_path / "new", prompts=tmp_path / "prompts.txt")
    assert not (tmp_path / "new/tokenizer.json").exists()
    assert found.facts["tokenizer"] == "EsmTokenizer"
    assert "There is no tokenizer.json, since EsmTokenizer is Python code" in str(found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"to": "gguf"}, "to: received 'gguf'. Accepted: onnx"),
        ({"quantized": "int4"}, "quantize: received 'int4'. Accepted: int8"),
    ],
)
def test_what_is_not_known_is_refused(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(tmp_path, **values)


@needs_onnx
def test_a_folder_with_files_is_kept(run, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match=r"output: .* is not empty"):
        export(run, output=tmp_path)
