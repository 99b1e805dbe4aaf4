"""A run that trains an adapter: its checkpoints hold only that, and it is resumed as any other run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import make_bert, reseal
from safetensors.torch import load_file
from small_run import NUMBERED, STEPS, At, make_trainer, weights

from mlm_recipes import MLMConfig, MLMTrainer, load_model, train
from mlm_recipes.checkpoints.value_kinds import kind
from mlm_recipes.model.lora import has_adapter
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.training.optimization import adapters
from mlm_recipes.training.optimization.adapters import merges

LORA = {"peft": "lora", "lora_r": 4, "learning_rate": 1e-2, "lora_train_head": False}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft": "dora"}, r"peft: received 'dora'. Accepted: none or lora"),
        ({"lora_r": 0}, r"lora_r: received 0"),
        ({"lora_alpha": 0}, r"lora_alpha: received 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout: received 1.0"),
        ({"lora_target_modules": " , "}, r"lora_target_modules: received nothing"),
        ({"lora_merge": True}, r"lora_merge: received True with peft 'none'"),
    ],
)
def test_a_value_out_of_range_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MLMConfig(use_cpu=True, **values)


def test_without_peft_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(adapters, "is_installed", lambda package: False)
    with pytest.raises(ValueError, match=r"^peft: 'lora' needs a package .*: peft\. .* pip install peft$"):
        MLMConfig(use_cpu=True, peft="lora")


def test_layers_are_the_same_value_however_they_are_written():
    for written in ("query value", "query,value", ["query", "value"]):
        assert MLMConfig(use_cpu=True, lora_target_modules=written).lora_target_modules == "query value"


def test_a_resumed_run_may_change_how_it_is_saved_and_not_what_is_trained():
    names = ("peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_train_head")
    assert {kind(name) for name in names} == {"fixed"}
    assert kind("lora_merge") == "allowed"


class TestWithPeft:
    """What needs the package."""

    @pytest.fixture(autouse=True)
    def _peft(self):
        pytest.importorskip("peft")

    def test_by_default_only_a_model_of_the_hub_keeps_its_adapter_apart(self, tmp_path):
        for model, merged in (("mini", True), (str(tmp_path), True), ("google-bert/bert-base-uncased", False)):
            assert merges(MLMConfig(use_cpu=True, peft="lora", model=model)) is merged
            assert merges(MLMConfig(use_cpu=True, peft="lora", model=model, lora_merge=not merged)) is not merged

    def test_an_adapter_that_nobody_else_could_use_is_not_uploaded(self):
        with pytest.raises(ValueError, match=r"lora_merge: received False with push_to_hub and the model 'mini'"):
            MLMConfig(use_cpu=True, peft="lora", push_to_hub=True, lora_merge=False)

    def test_without_a_recipe_it_is_that_of_an_adapter(self):
        config = read_config(None, {"peft": "lora"})
        assert (config.peft, config.muon, config.model) == ("lora", False, "mini")

    @pytest.mark.slow
    def test_the_quickstart_trains_an_adapter_if_asked_to(self, short_text):
        values = {"train_minutes": 0.01, "max_steps": 3, "max_length": 32, "general_corpus": "none", "eval_draws": 1}
        values |= {"pseudo_perplexity_tokens": 50, "prompts_compared": 6, "use_cpu": True}
        metrics = train("quickstart", corpus=str(short_text), peft="lora", **values).metrics
        assert metrics["train"]["lora"]["layers"] == 16

    def test_a_checkpoint_holds_the_adapter_alone(self, tokenizer):
        trainer = make_trainer(tokenizer, NUMBERED, **LORA)
        frozen = {name: weight.clone() for name, weight in trainer.model.named_parameters() if not weight.requires_grad}
        trainer.train()
        checkpoint = Path(f"run/checkpoint-{STEPS}")
        assert not list(checkpoint.glob("model*")) + list(checkpoint.glob("config.json"))
        held = load_file(checkpoint / "adapter_model.safetensors")
        assert len(held) == 24
        assert all(".lora_" in name for name in held)
        found = dict(trainer.model.named_parameters())
        assert all(torch.equal(found[name], weight) for name, weight in frozen.items())
        assert all(float(weight.abs().max()) > 0 for name, weight in held.items())
        optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        assert len(optimizer["state"]) == 24

    @pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, pytest.param({"muon": True}, marks=pytest.mark.slow)])
    def test_a_resumed_run_ends_with_the_same_weights(self, tokenizer, changes):
        values = LORA | changes
        whole = make_trainer(tokenizer, NUMBERED, "whole", **values)
        whole.train()
        stopped = make_trainer(tokenizer, NUMBERED, callback=At(4, _stop), **values)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
        again = make_trainer(tokenizer, NUMBERED, **values)
        again.train(resume_from_checkpoint=True)
        assert again.resumed[-1]["step"] == 2
        assert torch.equal(weights(again), weights(whole))

    def test_a_checkpoint_of_other_values_is_refused(self, tokenizer):
        make_trainer(tokenizer, NUMBERED, **LORA).train()
        other = make_trainer(tokenizer, NUMBERED, **LORA | {"lora_r": 8}, max_steps=8)
        with pytest.raises(ValueError, match=r"belongs to another run: lora_r was 4 and is now 8"):
            other.train(resume_from_checkpoint=True)
        plain = make_trainer(tokenizer, NUMBERED, max_steps=8)
        with pytest.raises(ValueError, match=r"belongs to another run: .*peft was 'lora' and is now 'none'"):
            plain.train(resume_from_checkpoint=True)

    def test_the_best_model_is_loaded_at_the_end(self, tokenizer):
        trainer = make_trainer(
            tokenizer, NUMBERED, **LORA | {"learning_rate": 1.0}, load_best_model_at_end=True, eval_strategy="steps",
            eval_steps=2, metric_for_best_model="loss",
        )  # fmt: skip
        trainer.train()
        best = Path(trainer.state.best_model_checkpoint)
        assert best.name != f"checkpoint-{STEPS}", "the last step must not be the best one"
        held = load_file(best / "adapter_model.safetensors")
        found = {name.replace(".default", ""): weight for name, weight in trainer.model.named_parameters()}
        assert all(torch.equal(found[name.removeprefix("base_model.model.")], weight) for name, weight in held.items())

    @pytest.mark.parametrize(
        "changes",
        [{"muon": True}, {"muon": True, "lora_train_head": True}, {"bf16": True}, {"gradient_accumulation_steps": 2}],
    )
    def test_other_options_train_an_adapter_too(self, tokenizer, changes):
        trainer = make_trainer(tokenizer, NUMBERED, **LORA | changes, max_steps=2, save_strategy="no")
        before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
        trainer.train()
        assert trainer.padding_free
        assert trainer.sparse_prediction
        for name, weight in trainer.model.named_parameters():
            assert torch.equal(weight, before[name]) is not weight.requires_grad, name

    def test_the_base_is_named_and_peft_asks_nobody_for_it(self, tokenizer, checkpoint, monkeypatch):
        import peft.utils.save_and_load as inside

        asked = []
        monkeypatch.setattr(inside, "check_file_exists_on_hf_hub", lambda *names: asked.append(names))
        args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, **LORA)
        trainer = MLMTrainer(str(checkpoint), args=args, train_dataset=NUMBERED, processing_class=tokenizer)
        trainer.model.peft_config["default"].base_model_name_or_path = "someone/bert"
        trainer.train()
        config = json.loads(Path("run/checkpoint-1/adapter_config.json").read_text("utf-8"))
        assert config["base_model_name_or_path"] == "someone/bert"
        assert not asked

    def test_a_model_by_name_and_a_model_object_get_an_adapter(self, tokenizer, checkpoint, tiny_bert):
        args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, **LORA)
        for model in (str(checkpoint), tiny_bert):
            trainer = MLMTrainer(model, args=args, train_dataset=NUMBERED, processing_class=tokenizer)
            assert has_adapter(trainer.model)
        base = trainer.model.peft_config["default"].base_model_name_or_path
        assert base is None  # it was made here

    def test_each_model_of_model_init_gets_one(self, tokenizer, checkpoint):
        args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, save_strategy="no", **LORA)
        trainer = MLMTrainer(
            None, args=args, train_dataset=NUMBERED, processing_class=tokenizer,
            model_init=lambda: load_model(checkpoint, tokenizer),
        )  # fmt: skip
        first = trainer.model
        trainer.train()
        trainer.train()
        assert trainer.model is not first
        assert has_adapter(trainer.model)

    def test_what_an_earlier_trainer_froze_stays_as_it_is(self, tokenizer, tiny_bert):
        values = {"output_dir": "run", "max_steps": 1, "use_cpu": True, "save_strategy": "no"}
        for changes in ({"freeze": "lower-1"}, LORA):
            args = MLMConfig(**values, **changes)
            trainer = MLMTrainer(tiny_bert, args=args, train_dataset=NUMBERED, processing_class=tokenizer)
        trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
        assert len(trained) == 24
        assert all(".lora_" in name for name in trained)

    @pytest.mark.parametrize("as_init", [True, False])
    def test_the_new_head_of_an_object_is_trained(self, tokenizer, tmp_path, as_init):
        make_bert(tokenizer).bert.save_pretrained(tmp_path / "body")
        args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, save_strategy="no", **LORA)

        def init():
            return load_model(tmp_path / "body", tokenizer)

        given = {"model_init": init} if as_init else {}
        trainer = MLMTrainer(
            None if as_init else init(), args=args, train_dataset=NUMBERED, processing_class=tokenizer, **given
        )
        for _ in range(2):
            head = trainer.model.cls.predictions.transform.modules_to_save
            assert all(weight.requires_grad for weight in head.parameters())
            trainer.train()

    def test_another_base_by_the_same_name_is_another_run(self, tokenizer, tmp_path):
        def trainer(change):
            model = make_bert(tokenizer)
            with torch.no_grad():
                model.bert.embeddings.word_embeddings.weight[7] += change
            model.save_pretrained(tmp_path / "base")
            tokenizer.save_pretrained(tmp_path / "base")
            args = MLMConfig(output_dir="run", max_steps=4, use_cpu=True, save_steps=2, model="base", **LORA)
            return MLMTrainer(tmp_path / "base", args=args, train_dataset=NUMBERED)

        trainer(0).train()
        with pytest.raises(
            ValueError, match=r"another run: weights under the adapter was '[0-9a-f]{16}' and is now '[0-9a-f]{16}'"
        ):
            trainer(1).train(resume_from_checkpoint="run/checkpoint-2")
        trainer(0).train(resume_from_checkpoint="run/checkpoint-2")
        state = Path("run/checkpoint-2/trainer_state.json")
        saved = json.loads(state.read_text("utf-8"))
        contract = saved["stateful_callbacks"]["ResumeContract"]["attributes"]["contract"]
        del contract["facts"]["weights under the adapter"]
        state.write_text(json.dumps(saved), encoding="utf-8")
        reseal(Path("run/checkpoint-2"))
        trainer(1).train(resume_from_checkpoint="run/checkpoint-2")  # saved before the weights were compared

    def test_an_object_that_has_an_adapter_is_not_sharded(self, tokenizer, tiny_bert):
        args = MLMConfig(use_cpu=True, **LORA)
        adapters.add_adapter(args, tiny_bert, tokenizer)
        sharded = MLMConfig(use_cpu=True, fsdp=True)
        with pytest.raises(
            ValueError, match=r"^model: received a BertForMaskedLM object that has an adapter, with FSDP"
        ):
            adapters.add_adapter(sharded, tiny_bert, tokenizer)

    def test_random_weights_are_refused(self, tokenizer):
        args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, **LORA)
        with pytest.raises(ValueError, match=r"peft: received 'lora' with 'mini-random', which starts from random"):
            MLMTrainer("mini-random", args=args, train_dataset=NUMBERED, processing_class=tokenizer)


def _stop(model):
    raise KeyboardInterrupt
