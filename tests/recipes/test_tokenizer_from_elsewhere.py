"""Weights without a tokenizer are refused; `tokenizer` names one from elsewhere, which travels with the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_bert

from mlm_recipes import (
    MLMConfig,
    MLMTrainer,
    cli,
    evaluate,
    fill,
    inspect_corpus,
    load_tokenizer,
    train,
    train_tokenizer,
)
from mlm_recipes.data.tokenizer import vocabulary_fingerprint
from mlm_recipes.recipes import run_folder
from mlm_recipes.recipes.arguments import read_config

SHORT = {
    "max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "max_eval_samples": 4, "use_cpu": True,
    "general_corpus": "none", "prompts_compared": 2, "eval_draws": 1, "pseudo_perplexity_tokens": 20,
}  # fmt: skip


@pytest.fixture
def bare(checkpoint, tmp_path):
    """Trained weights as model.save_pretrained leaves them, without a tokenizer; and the tokenizer beside them."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "words").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint / name, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, tmp_path / "words")
    return tmp_path / "bare"


def within(bare, folder):
    """The same weights in a folder below another."""
    shutil.copytree(bare, folder)
    return folder


@pytest.mark.parametrize("verb", ["train", "reference", "evaluate", "inspect", "verify", "fill"])
def test_every_command_refuses_trained_weights_without_a_tokenizer(verb, bare, short_text, capsys):
    asked = ["The [MASK]."] if verb == "fill" else ["--corpus", str(short_text)]
    model = ["bare"] if verb == "fill" else ["--model", "bare"]
    assert cli.main([verb, *model, *asked]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlm-recipes: error: model: 'bare' has trained weights and no tokenizer (bare). Accepted: ")
    assert "--tokenizer NAME" in error
    assert len(error.splitlines()) == 1
    assert not Path("runs").exists()


def settings_only(bare):
    """The settings of a tokenizer without its vocabulary: transformers makes one of five tokens."""
    (bare / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return bare


def half_of_a_vocabulary(bare):
    (bare / "vocab.json").write_text('{"a": 0}')
    return bare


def checkpoint_of_a_run(bare):
    return within(bare, bare.parent / "words" / "checkpoint-7")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda bare: bare, "NAME"),
        (lambda bare: within(bare, bare.parent / "project" / "sub"), "NAME"),
        (settings_only, "NAME"),
        (half_of_a_vocabulary, "NAME"),
        (checkpoint_of_a_run, "words"),
    ],
    ids=["folder", "sub-folder", "settings only", "half of a vocabulary", "checkpoint"],
)
def test_the_trainer_refuses_them_too(make, named, bare, corpus):
    with pytest.raises(ValueError, match=rf"has trained weights and no tokenizer .*--tokenizer .*{named}\."):
        MLMTrainer(make(bare), args=MLMConfig(**SHORT), train_dataset=corpus["validation"])


def test_a_pointer_of_git_lfs_is_no_vocabulary(bare):
    (bare / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 231508\n")
    with pytest.raises(ValueError, match=r"tokenizer\.json of .* is a pointer of git-lfs"):
        load_tokenizer(bare)


@pytest.mark.slow
def test_the_tokenizer_from_elsewhere_travels_with_the_run(bare, checkpoint, short_text, caplog):
    run = train("adapt", model="bare", tokenizer="words", corpus=str(short_text), output_dir="run", **SHORT)
    values = {"corpus": str(short_text), "general_corpus": "none"} | {n: SHORT[n] for n in SHORT if "step" not in n}
    own = evaluate(model=str(checkpoint), **values).metrics["evaluation"]
    assert (run.metrics["before"]["loss"], own["tokenizer"]) == (own["loss"], None)
    assert run.metrics["train"]["tokenizer"] == "words"
    assert yaml.safe_load(Path("run/recipe.yaml").read_text())["tokenizer"] == "words"
    # The weights are random, so no tokenizer could be theirs.
    assert "With the tokenizer words, the model's loss on the held-out text is 6.9" in caplog.text
    shutil.rmtree("words")
    measured = evaluate("run").metrics["evaluation"]
    assert (measured["loss"], measured["tokenizer"]) == (run.metrics["after"]["loss"], None)
    assert fill("run", "The [MASK].")


def test_fill_and_inspect_take_one(bare, checkpoint, short_text):
    assert fill("bare", "The [MASK].", tokenizer="words") == fill(checkpoint, "The [MASK].")
    facts = inspect_corpus(model="bare", tokenizer="words", corpus=str(short_text), timing=False).facts
    assert (facts["problems"], facts["model"]["vocabulary"]) == ([], 1000)


def test_the_trainer_takes_one(bare, corpus, tiny_bert):
    args = MLMConfig(tokenizer="words", **SHORT)
    for model in ("bare", tiny_bert):
        trainer = MLMTrainer(model, args=args, train_dataset=corpus["validation"])
        assert len(trainer.processing_class) == 1000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: (folder / "tokenizer_config.json").write_text("{}"), "cannot be loaded (none of its files"),
        (lambda folder: (folder / "vocab.txt").write_text("a\n"), "cannot be loaded"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "holds no vocabulary"),
        (lambda folder: load_tokenizer("mini").save_pretrained(folder), "1000 token embeddings, and the tokenizer"),
    ],
)
def test_one_that_does_not_fit_is_refused(make, says, bare, short_text, capsys):
    Path("other").mkdir()
    make(Path("other"))
    assert cli.main(["train", "--model", "bare", "--tokenizer", "other", "--corpus", str(short_text)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not Path("runs").exists()


def test_other_special_tokens_are_refused(bare, tokenizer, short_text):
    make_bert(tokenizer, pad_token_id=3).save_pretrained("bare")
    with pytest.raises(
        ValueError, match="'words' does not fit the model 'bare': the pad token is 3 in its config and 0"
    ):
        train("adapt", model="bare", tokenizer="words", corpus=str(short_text), output_dir="run", **SHORT)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tokenizer": "words/tokenizer.json"}, "is a file. Accepted: the folder"),
        ({"tokenizer": "./nowhere"}, "tokenizer: there is no folder './nowhere'"),
        ({"tokenizer": "someone/words"}, "tokenizer: 'someone/words' is neither built in nor a local folder"),
        ({"tokenizer": "words", "tokenizer_revision": "v1"}, "tokenizer_revision: received 'v1' for 'words'"),
        ({"tokenizer_revision": "v1"}, "tokenizer_revision: received 'v1' without a tokenizer"),
        ({"tokenizer": "mini-random"}, "'mini-random' holds no vocabulary"),
        ({"tokenizer": "words", "trust_remote_code": "else"}, "received 'else' for the model"),
        ({"tokenizer": train_tokenizer}, "tokenizer: received a function"),
        ({"model": torch.nn.Linear(2, 2)}, "model: received a Linear.*give the object to MLMTrainer"),
    ],
)
def test_a_name_that_is_none_is_refused(values, says, bare, short_text):
    with pytest.raises(ValueError, match=says):
        train("adapt", **({"model": "bare", "corpus": str(short_text), "output_dir": "run"} | SHORT | values))


def test_random_weights_use_it_instead_of_learning_one(bare, checkpoint, short_text):
    words = vocabulary_fingerprint(load_tokenizer("words"))
    for values in ({"model": "mini-random"}, {"model": str(checkpoint), "from_scratch": True}):
        config = MLMConfig(tokenizer="words", **values, **SHORT)
        trainer = MLMTrainer(config.model, args=config, train_dataset=[{"text": "To be."}] * 4)
        assert vocabulary_fingerprint(trainer.processing_class) == words
        assert trainer.model.config.vocab_size == 1000


def test_another_model_does_not_inherit_it():
    Path("mine.yaml").write_text("model: bare\ntokenizer: words\ntokenizer_revision: v1\n")
    assert read_config("mine.yaml").tokenizer == "words"
    assert read_config("mine.yaml", {"model": "mini"}).tokenizer is None
    other = read_config("mine.yaml", {"tokenizer": "others"})
    assert (other.model, other.tokenizer, other.tokenizer_revision) == ("bare", "others", None)


def test_its_code_is_run_only_if_it_is_named(bare, checkpoint, tmp_path):
    canary = tmp_path / "canary"
    Path("words/odd.py").write_text(
        f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n"
        "from transformers import BertTokenizer\nclass OddTokenizer(BertTokenizer): pass\n"
    )
    settings = json.loads(Path("words/tokenizer_config.json").read_text())
    own = {"tokenizer_class": "OddTokenizer", "auto_map": {"AutoTokenizer": ["odd.OddTokenizer", None]}}
    Path("words/tokenizer_config.json").write_text(json.dumps(settings | own))
    rows = [{"text": "To be."}] * 4
    try:
        MLMTrainer("bare", args=MLMConfig(tokenizer="words", **SHORT), train_dataset=rows)
    except ValueError as error:
        assert "tokenizer: 'words' needs its own code" in str(error)  # noqa: PT017
    assert not canary.exists()
    MLMTrainer("bare", args=MLMConfig(tokenizer="words", trust_remote_code="words", **SHORT), train_dataset=rows)
    assert canary.exists()


def test_a_resumed_run_must_have_the_same_vocabulary_wherever_it_comes_from(bare, tokenizer):
    rows = [{"input_ids": [101, 500, 501, 102]}] * 4

    def trainer(folder, **values):
        args = MLMConfig(output_dir="run", save_steps=1, tokenizer=folder, **SHORT | values)
        return MLMTrainer("bare", args=args, train_dataset=rows)

    trainer("words").train()
    shutil.copytree("words", "moved")
    moved = trainer("moved")
    moved.check_resume(Path("run/checkpoint-1"))
    changed = json.loads(Path("words/tokenizer.json").read_text())
    vocabulary = changed["model"]["vocab"]
    vocabulary["the"], vocabulary["and"] = vocabulary["and"], vocabulary["the"]
    Path("words/tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"belongs to another run: vocabulary was '.*' and is now '"):
        trainer("words").check_resume(Path("run/checkpoint-1"))


def test_a_run_of_an_earlier_version_is_found_again(tmp_path):
    values = MLMConfig(use_cpu=True).to_recipe()
    earlier = {name: value for name, value in values.items() if not name.startswith("tokenizer")}
    run_folder.write_recipe(tmp_path, earlier)
    assert run_folder.is_unfinished(tmp_path, values)
    assert not run_folder.is_unfinished(tmp_path, values | {"tokenizer": "words"})


@pytest.mark.slow  # two processes
def test_the_remedy_for_a_pickle_gives_a_complete_folder(checkpoint, short_text):
    shutil.copytree(checkpoint, "old")
    Path("old/model.safetensors").unlink()
    torch.save(make_bert(load_tokenizer("old")).state_dict(), "old/pytorch_model.bin")
    arguments = ["--corpus", str(short_text), "--max_length", "32", "--max_eval_samples", "5"]
    with pytest.raises(ValueError, match="python -c") as found:
        train("adapt", model="old", corpus=str(short_text), **SHORT)
    code, new = re.search(r'python -c "(.*?)", and use --model (\S+)\. ', str(found.value)).groups()
    environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, timeout=120)
    assert {path.name for path in Path(new).iterdir()} >= {"model.safetensors", "tokenizer.json", "config.json"}
    assert cli.main(["evaluate", "--model", new, "--general_corpus", "none", *arguments]) == 0
