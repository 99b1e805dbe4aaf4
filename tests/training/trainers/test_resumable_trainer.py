from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from safetensors.torch import load_file, save_file
from small_run import NUMBERED, STEPS
from transformers import AutoModelForMaskedLM

from mlm_recipes import MLMConfig, MLMTrainer

NEW = {".gamma": ".weight", ".beta": ".bias"}


@pytest.fixture
def old_names(tmp_path, tokenizer):
    """A checkpoint with LayerNorm's earlier names, as google-bert/bert-base-uncased has them."""
    model = make_bert(tokenizer)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "old")
    path = tmp_path / "old" / "model.safetensors"
    weights = load_file(path)
    for new, old in ((new, old) for old, new in NEW.items()):
        weights = {
            name.removesuffix(new) + old if "LayerNorm" in name and name.endswith(new) else name: weight
            for name, weight in weights.items()
        }
    save_file(weights, path, metadata={"format": "pt"})
    return path.parent


def trainer_of(model, tokenizer, folder, **changes):
    values = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
        "save_steps": 2, "mlm_probability": 0.4, "use_cpu": True, "bf16": False,
    }  # fmt: skip
    return MLMTrainer(
        AutoModelForMaskedLM.from_pretrained(model), args=MLMConfig(**(values | changes)), train_dataset=NUMBERED,
        eval_dataset=NUMBERED, processing_class=tokenizer,
    )  # fmt: skip


def assert_same(one, other):
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name


def test_weights_that_are_saved_under_earlier_names_are_resumed(old_names, tmp_path, tokenizer, caplog):
    whole = trainer_of(old_names, tokenizer, tmp_path / "whole")
    whole.train()
    saved = load_file(tmp_path / "whole" / "checkpoint-2" / "model.safetensors")
    assert any(name.endswith("gamma") for name in saved)  # otherwise this tests nothing
    resumed = trainer_of(old_names, tokenizer, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=tmp_path / "whole" / "checkpoint-2")
    assert_same(whole, resumed)
    assert "keys" not in caplog.text


def test_the_best_model_is_loaded_by_earlier_names(old_names, tmp_path, tokenizer):
    trainer = trainer_of(
        old_names, tokenizer, tmp_path / "run", eval_strategy="steps", eval_steps=2, load_best_model_at_end=True
    )
    worst = {"eval_loss": 0.0}
    trainer.evaluate = lambda *args, **kwargs: worst.update(eval_loss=worst["eval_loss"] + 1) or dict(worst)
    trainer.train()  # each evaluation is worse than the one before
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    saved = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    for name, weight in saved.items():
        ours = next((name.removesuffix(old) + new for old, new in NEW.items() if name.endswith(old)), name)
        assert torch.equal(trainer.model.state_dict()[ours], weight), name
