"""A run that trains an adapter, from the command to the folder that other programs load."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import metrics_schema
import pytest
import torch
import yaml
from conftest import make_bert
from safetensors.torch import load_file
from same_run import assert_close, loss_bound
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertModel, pipeline

from mlm_recipes import evaluate, fill, load_model, load_tokenizer, reference, train
from mlm_recipes.model.lora import has_adapter
from mlm_recipes.recipes import export, upload
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.demo import Playground
from mlm_recipes.report.run_report import write
from mlm_recipes.sources.missing_packages import MissingPackageError
from mlm_recipes.training.optimization import adapters

pytestmark = pytest.mark.slow  # each trains or exports a model

pytest.importorskip("peft")

SHORT = {
    "max_steps": 3, "per_device_train_batch_size": 4, "max_length": 32, "general_corpus": "none", "eval_draws": 1,
    "pseudo_perplexity_tokens": 100, "prompts_compared": 6, "use_cpu": True, "bf16": False,
}  # fmt: skip
LORA = SHORT | {"peft": "lora", "lora_r": 4, "learning_rate": 0.05, "lora_train_head": False}
IDS = {"input_ids": torch.tensor([[101, 200, 103, 300, 102]])}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, short_text, checkpoint):
    """A run that saved its adapter without the model, and its checkpoints."""
    folder = tmp_path_factory.mktemp("run") / "adapter"
    return train(
        model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), lora_merge=False, save_strategy="steps",
        save_steps=2, **LORA,
    )  # fmt: skip


@pytest.fixture(scope="module")
def merged(tmp_path_factory, short_text, checkpoint):
    """The same run, saved as it is by default, since its model is not on the hub."""
    folder = tmp_path_factory.mktemp("run") / "merged"
    return train(model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), **LORA)


def files(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith("checkpoint-")}


PAGES = {"tokenizer.json", "tokenizer_config.json", "recipe.yaml", "metrics.json", "report.html", "README.md"}


def test_an_adapter_alone_is_small_and_names_its_model(alone, checkpoint):
    folder = alone.output_dir
    assert files(folder) == PAGES | {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(checkpoint)
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 32, "LORA")
    for name in ("checkpoint-2", "checkpoint-3"):
        assert not list((folder / name).glob("model*"))
        named = json.loads((folder / name / "adapter_config.json").read_text("utf-8"))
        assert named["base_model_name_or_path"] == str(checkpoint)


def test_a_merged_run_is_a_plain_model(merged):
    assert files(merged.output_dir) == PAGES | {"config.json", "model.safetensors"}
    assert not [name for name in load_file(merged.output_dir / "model.safetensors") if "lora" in name]


def test_both_kinds_are_the_same_model_to_everybody(alone, merged, checkpoint):
    base = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    models = [
        AutoModelForMaskedLM.from_pretrained(alone.output_dir),
        AutoModelForMaskedLM.from_pretrained(merged.output_dir),
        load_model(alone.output_dir, load_tokenizer(alone.output_dir)),
        load_model(merged.output_dir, load_tokenizer(merged.output_dir)),
        load_model(alone.output_dir / "checkpoint-3", load_tokenizer(alone.output_dir / "checkpoint-3")),
    ]
    with torch.no_grad():
        before, *found = (model.eval()(**IDS).logits for model in (base, *models))
    assert (found[0] - before).abs().max() > 0.01
    for each in found[1:]:
        assert_close(each, found[0], loss_bound(base))
    assert has_adapter(models[0])
    assert not any(has_adapter(model) for model in models[1:])
    assert all(weight.requires_grad for weight in models[2].parameters())


def test_what_was_measured_is_what_was_saved(alone, merged, checkpoint, caplog):
    caplog.set_level(logging.INFO, logger="mlm_recipes")
    model = make_bert(load_tokenizer(checkpoint))
    for run in (alone, merged):
        found = evaluate(run.output_dir, use_cpu=True, bf16=False).metrics["evaluation"]
        after = run.metrics["after"]
        assert found["loss"] == pytest.approx(after["loss"], rel=loss_bound(model))
        assert found["masked_tokens"] == after["masked_tokens"]
        assert "LoRA" not in caplog.text  # no new adapter is added to what is only measured
        assert abs(after["loss"] - run.metrics["before"]["loss"]) > 0.01
    assert alone.metrics["after"]["loss"] == pytest.approx(merged.metrics["after"]["loss"], rel=loss_bound(model))


def test_nobody_needs_peft_for_a_merged_run(merged, monkeypatch, caplog):
    monkeypatch.setattr(adapters, "is_installed", lambda package: False)
    with pytest.raises(MissingPackageError, match="peft: 'lora'"):
        read_config(merged.output_dir)
    assert evaluate(merged.output_dir, use_cpu=True).metrics["evaluation"]["loss"] > 0
    tokenizer = load_tokenizer(merged.output_dir)
    held = export._held_out(merged.output_dir, load_model(merged.output_dir, tokenizer), tokenizer, None)
    assert held.what == "held-out rows"
    assert "cannot be read" not in caplog.text


def test_the_pipeline_and_our_commands_take_both(alone, merged):
    prompt = "The [MASK] of man."
    told = []
    for run in (alone, merged):
        (guesses,) = fill(run.output_dir, prompt, top_k=5)
        usual = pipeline("fill-mask", str(run.output_dir))(prompt, top_k=5)
        assert [token for token, _ in guesses[0]] == [each["token_str"] for each in usual]
        played = Playground.open(run.output_dir)
        assert "Before" in played.fill("The soul of man.", [1])
        told.append([token for token, _ in guesses[0]])
        for page in write(run.output_dir):
            assert page.is_file()
    assert told[0] == told[1]
    assert AutoTokenizer.from_pretrained(alone.output_dir).mask_token == "[MASK]"


def test_metrics_report_and_card_say_what_was_trained(alone, merged):
    for run, whether, library in ((alone, False, "peft"), (merged, True, "transformers")):
        facts = json.loads((run.output_dir / "metrics.json").read_text("utf-8"))
        metrics_schema.check(facts)
        assert facts["train"]["lora"] == {"r": 4, "alpha": 32, "layers": 12, "head": [], "merged": whether}
        held = alone.output_dir / "adapter_model.safetensors"
        assert facts["train"]["trained_parameters"] == sum(each.numel() for each in load_file(held).values())
        whole = load_model(merged.output_dir, load_tokenizer(merged.output_dir))
        assert facts["train"]["parameters"] == whole.num_parameters()
        share = facts["train"]["trained_parameters"] / facts["train"]["parameters"]
        said = f"LoRA, r 4 and alpha 32 on 12 linear layers: .* parameters, {share:.1%}"
        assert re.search(said, (run.output_dir / "report.html").read_text("utf-8"))
        card = (run.output_dir / "README.md").read_text("utf-8")
        assert re.search(said, card)
        assert yaml.safe_load(card.split("---")[1])["library_name"] == library
        assert ("pip install peft" in card) is not whether


def test_what_training_took_is_known_though_the_adapter_is_merged(alone, merged):
    """As much as for the same run that keeps its adapter apart; the machine and the seconds differ."""
    took = []
    for run in (alone, merged):
        facts = run.metrics["train"]
        took.append(facts["machine_limit"]["flops_per_second"] * facts["seconds"])
        assert "share of the machine" in (run.output_dir / "report.html").read_text("utf-8")
    assert took[0] == pytest.approx(took[1], rel=1e-12)


def test_the_first_screen_says_what_is_trained_and_what_is_saved(short_text, checkpoint, caplog):
    caplog.set_level(logging.INFO, logger="mlm_recipes")
    train(model=str(checkpoint), corpus=str(short_text), output_dir="run", **LORA)
    share = r"\d+\.\d% of the parameters are trained\."
    said = rf"LoRA: r 4 on 12 linear layers, {share} It is saved merged into the model, since .* is not on the hub\."
    assert re.search(said, caplog.text)


def test_the_recipe_of_a_run_repeats_it(alone):
    again = train(alone.output_dir, output_dir="again", save_strategy="no")
    found = load_file("again/adapter_model.safetensors")
    held = load_file(alone.output_dir / "adapter_model.safetensors")
    assert held.keys() == found.keys()
    assert all(torch.equal(found[name], held[name]) for name in held)
    assert again.metrics["after"]["loss"] == alone.metrics["after"]["loss"]


def test_a_run_is_resumed_as_its_values_say(alone, short_text, checkpoint):
    shutil.copytree(alone.output_dir, "run")
    for name in ("metrics.json", "checkpoint-3", "adapter_model.safetensors"):
        path = Path("run") / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumed = train("run", resume_from_checkpoint=True)
    assert resumed.metrics["train"]["resumed"][0]["step"] == 2
    held = load_file(alone.output_dir / "adapter_model.safetensors")
    found = load_file("run/adapter_model.safetensors")
    assert all(torch.equal(found[name], held[name]) for name in held)


def test_a_run_that_replaces_one_of_the_other_kind_leaves_nothing_of_it(short_text, checkpoint):
    """transformers would load a merged model and add the adapter beside it once more."""
    values = LORA | {"model": str(checkpoint), "corpus": str(short_text), "output_dir": "run", "overwrite": True}
    train(lora_merge=True, **values)
    train(lora_merge=False, **values)
    assert not {"config.json", "model.safetensors"} & files(Path("run"))
    train(lora_merge=True, **values)
    assert not {"adapter_config.json", "adapter_model.safetensors"} & files(Path("run"))


def test_an_adapter_is_trained_further_as_a_whole_or_by_another(alone, short_text):
    values = SHORT | {"model": str(alone.output_dir), "corpus": str(short_text)}
    whole = train("adapt", output_dir="whole", **values)
    assert whole.metrics["before"]["loss"] == pytest.approx(alone.metrics["after"]["loss"], rel=1e-5)
    assert (whole.output_dir / "model.safetensors").exists()
    train(output_dir="another", lora_merge=False, **values | LORA)
    upon = load_model("another", load_tokenizer("another"))  # an adapter of an adapter of the model
    with torch.no_grad():
        assert torch.isfinite(upon(**IDS).logits).all()
    assert evaluate("another", use_cpu=True).metrics["evaluation"]["loss"] > 0


def test_a_head_that_is_new_is_trained(tmp_path, short_text, checkpoint, caplog):
    caplog.set_level(logging.INFO, logger="mlm_recipes")
    BertModel.from_pretrained(checkpoint, add_pooling_layer=False).save_pretrained(tmp_path / "body")
    load_tokenizer(checkpoint).save_pretrained(tmp_path / "body")
    values = LORA | {"model": str(tmp_path / "body"), "corpus": str(short_text), "lora_merge": False}
    run = train(output_dir="run", **values)
    assert run.metrics["train"]["lora"]["head"] == ["cls.predictions.transform"]
    assert "with the head (cls.predictions.transform)" in caplog.text
    held = load_file("run/adapter_model.safetensors")
    assert any("cls.predictions.transform.dense.weight" in name for name in held)
    caplog.clear()
    found = evaluate("run", use_cpu=True, bf16=False).metrics["evaluation"]
    assert found["loss"] == pytest.approx(run.metrics["after"]["loss"], rel=1e-4)
    assert found["head_initialised"] == []
    assert "head is new" not in caplog.text


def test_the_files_of_an_adapter_are_uploaded(alone):
    sent = upload.run_files(alone.output_dir)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= set(sent)


def test_the_tutorials_loop_trains_everything(short_text):
    with pytest.raises(ValueError, match=r"peft: received 'lora'. Accepted here: 'none'"):
        reference(peft="lora", corpus=str(short_text))
