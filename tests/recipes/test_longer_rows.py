"""Runs with `extend_positions`: from the model to the saved folder, resumed, measured again, and refused."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from mlm_recipes import evaluate, inspect_corpus, train
from mlm_recipes.recipes.arguments import read_config

VALUES = {
    "extend_positions": 600, "packing": True, "max_steps": 2, "per_device_train_batch_size": 2,
    "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2,
    "general_corpus": "none", "eval_draws": 1, "pseudo_perplexity_tokens": 50, "prompts_compared": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoint, short_text):
    folder = tmp_path_factory.mktemp("longer") / "run"
    return train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), **VALUES)


@pytest.mark.slow
def test_rows_are_as_long_as_the_model_now_takes(run):
    assert run.metrics["corpus"]["max_length"] == 600
    config = read_config(run.output_dir, {})
    assert (config.extend_positions, config.max_length) == (600, None)


def test_what_is_saved_loads_at_the_new_length(run):
    model = AutoModelForMaskedLM.from_pretrained(run.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(run.output_dir)
    assert model.config.max_position_embeddings == 600
    assert tokenizer.model_max_length >= 600
    words = tokenizer("to be or not to be " * 200, truncation=True, max_length=600, return_tensors="pt")
    assert model(**words).logits.shape[1] == 600


def test_the_run_is_measured_again_with_its_own_recipe(run):
    again = evaluate(run.output_dir).metrics
    assert again["corpus"]["max_length"] == 600
    assert again["evaluation"]["loss"] == run.metrics["after"]["loss"]


@pytest.mark.slow
def test_it_is_resumed_and_repeated_bit_for_bit(run, tmp_path):
    repeated = train(run.output_dir / "recipe.yaml", output_dir=str(tmp_path / "again"))
    resumed = train(
        run.output_dir / "recipe.yaml", output_dir=str(tmp_path / "resumed"),
        resume_from_checkpoint=str(run.output_dir / "checkpoint-1"),
    )  # fmt: skip
    expected = load_file(run.output_dir / "model.safetensors")
    assert len(expected["bert.embeddings.position_embeddings.weight"]) == 600
    for other in (repeated, resumed):
        found = load_file(other.output_dir / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(bool((found[name] == weight).all()) for name, weight in expected.items())


def test_another_number_of_positions_is_another_run(run, tmp_path):
    with pytest.raises(ValueError, match="extend_positions was 600 and is now 640"):
        train(
            run.output_dir / "recipe.yaml", output_dir=str(tmp_path / "new"), extend_positions=640,
            resume_from_checkpoint=str(run.output_dir / "checkpoint-1"),
        )  # fmt: skip


@pytest.mark.slow
def test_random_weights_simply_get_the_size(short_text, tmp_path):
    values = VALUES | {"max_length": 32, "extend_positions": 2048, "vocab_size": 300, "save_strategy": "no"}
    found = train("pretrain", model="mini-random", corpus=str(short_text), output_dir=str(tmp_path / "new"), **values)
    assert found.metrics["corpus"]["max_length"] == 32
    model = AutoModelForMaskedLM.from_pretrained(found.output_dir)
    assert model.config.max_position_embeddings == 2048
    assert model.config.rope_parameters["full_attention"]["rope_theta"] == 160_000
    assert AutoTokenizer.from_pretrained(found.output_dir).model_max_length == 2048


def test_an_inspection_shows_the_longer_rows(checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text), "extend_positions": 600, "packing": True}
    assert inspect_corpus(timing=False, **values).facts["model"]["max_positions"] == 600


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extend_positions": 100}, r"extend_positions: received 100\. Accepted: more than 128"),
        ({"extend_positions": 2}, r"extend_positions: received 2\. Accepted: a number of tokens above"),
        ({"extend_positions": 200, "max_length": 300}, r"max_length: received 300 with extend_positions 200\."),
        ({"max_length": 300}, "--extend_positions gives a model more of them"),
    ],
)
def test_what_cannot_be_is_refused(values, message, checkpoint, short_text, tmp_path):
    with pytest.raises(ValueError, match=message):
        train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir=str(tmp_path / "no"), **values)
