"""`vocab` writes a file that `add_tokens` reads, and the run with it can be repeated, measured and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import metrics_schema
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mlm_recipes import cli, evaluate, load_corpus, load_tokenizer, train
from mlm_recipes.data.word_list import read_words
from mlm_recipes.recipes.vocabulary_proposal import propose_vocabulary
from mlm_recipes.report.side_by_side import compare_runs

SHORT = {
    "max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "use_cpu": True, "general_corpus": "none",
    "prompts_compared": 2, "eval_draws": 1, "pseudo_perplexity_tokens": 2000, "save_strategy": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(checkpoint, short_text, tmp_path_factory):
    """A run without and one with the proposed words, and the proposal."""
    folder = tmp_path_factory.mktemp("runs")
    values = {"model": str(checkpoint), "corpus": str(short_text), **SHORT}
    proposal = propose_vocabulary(add=150, at_least=2, output=folder / "words.txt", **values)
    without = train("adapt", output_dir=str(folder / "without"), **values)
    words = {"add_tokens": str(folder / "words.txt"), "train_new_tokens_first": 1}
    extended = train("adapt", output_dir=str(folder / "with"), **words, **values)
    return proposal, without, extended


@pytest.mark.slow
def test_what_is_proposed_is_what_is_saved(runs, short_text, checkpoint):
    proposal, _, run = runs
    words = read_words(str(proposal.path))
    assert words == [each.word for each in proposal.words]
    before, after = load_tokenizer(checkpoint), load_tokenizer(run.output_dir)
    texts = load_corpus(str(short_text))["train"]["text"]
    counted = [sum(len(t(x, add_special_tokens=False)["input_ids"]) for x in texts) for t in (before, after)]
    assert counted == [proposal.tokens[0], proposal.with_words[0]]
    assert counted[0] - counted[1] == sum(each.saved for each in proposal.words)
    held_out = " ".join(load_corpus(str(short_text))["validation"]["text"])
    only = {w for w in re.findall("[a-z]+", held_out.lower()) if w not in " ".join(texts).lower()}
    assert not only & set(words)


@pytest.mark.slow
def test_the_files_say_in_which_steps_only_new_rows_were_trained(runs):
    _, without, run = runs
    for each, said in ((without, False), (run, True)):
        written = json.loads((each.output_dir / "metrics.json").read_text("utf-8"))
        metrics_schema.check(written)
        assert written["train"].get("train_new_tokens_first") == (1 if said else None)
        page = (each.output_dir / "report.html").read_text("utf-8")
        assert ("Only the rows of new tokens are trained in the first step." in page) is said


@pytest.mark.slow
def test_a_run_from_a_run_with_the_base_tokenizer_keeps_the_rows_of_its_words(runs, checkpoint, short_text, caplog):
    proposal, _, run = runs
    caplog.set_level("INFO", "mlm_recipes")
    values = SHORT | {"model": str(run.output_dir), "tokenizer": str(checkpoint), "corpus": str(short_text)}
    words = {"add_tokens": str(proposal.path), "max_steps": 1, "learning_rate": 0.0}
    again = train("adapt", output_dir="again", **(values | words))
    count = len(read_words(str(proposal.path)))
    assert f"{count} words are new tokens; their rows stay as they are" in caplog.text
    ours, theirs = (load_file(each.output_dir / "model.safetensors") for each in (again, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_the_recipe_holds_the_words_and_repeats_the_run(runs):
    proposal, _, run = runs
    recipe = yaml.safe_load((run.output_dir / "recipe.yaml").read_text("utf-8"))
    assert recipe["add_tokens"] == read_words(str(proposal.path))
    again = train(run.output_dir / "recipe.yaml", output_dir="again", use_cpu=True)
    assert (again.output_dir / "model.safetensors").read_bytes() == (run.output_dir / "model.safetensors").read_bytes()
    assert again.metrics["change"] == run.metrics["change"]


@pytest.mark.slow
def test_a_finished_run_is_measured_with_its_own_vocabulary(runs):
    _, _, run = runs
    found = evaluate(run.output_dir, use_cpu=True).metrics["evaluation"]
    for name in ("loss", "loss_per_word", "loss_per_character"):
        assert found[name] == run.metrics["after"][name]


@pytest.mark.slow
def test_before_is_the_same_with_and_without_the_words(runs):
    _, without, run = runs
    old, new = (each.metrics["change"]["held_out"] for each in (without, run))
    assert new["word_sample"]["fingerprint"] == old["word_sample"]["fingerprint"]
    assert new["word_sample"]["tokens_before"] == old["word_sample"]["tokens_before"]
    for name in ("loss_per_word", "loss_per_character"):
        assert new["measures"][name]["before"] == pytest.approx(old["measures"][name]["before"], rel=1e-5)
    assert ("the vocabulary before had no added words" in " ".join(str(run).split())) is (
        new["word_sample"]["tokens_before"] != new["word_sample"]["tokens_after"]
    )


@pytest.mark.slow
def test_runs_with_different_vocabularies_are_compared_by_words_only(runs):
    _, without, run = runs
    found = compare_runs([without.output_dir, run.output_dir])
    assert found.comparable
    assert found.only_words
    assert "Only the loss per word and per character can be compared" in found.verdict()
    tables = dict(found.tables())
    labels = [row[0] for row in tables["Held-out text"]]
    assert "loss per word, after" in labels
    assert not [label for label in labels if "perplexity" in label or "accuracy" in label]
    same = compare_runs([without.output_dir, without.output_dir])
    assert not same.only_words
    assert "perplexity" in str(same)


def test_the_command_prints_a_table_and_never_replaces_a_file(checkpoint, short_text, capsys):
    arguments = ["vocab", str(short_text), "--model", str(checkpoint), "--add", "3", "--at_least", "2"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"word +pieces +frequency +tokens saved +of all tokens", printed)
    assert "--add_tokens runs/notes-words.txt" in " ".join(printed.split())
    assert len(read_words("runs/notes-words.txt")) == 3
    assert cli.main(arguments) == 2
    assert "already exists, and may have been edited" in capsys.readouterr().err
    assert cli.main([*arguments, "--output", "mine.csv"]) == 2
    assert "ends in .txt" in capsys.readouterr().err
    assert cli.main(["vocab", "--help"]) == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": "mini-random"}, "learns its whole vocabulary from the text"),
        ({"add": 0}, "add: received 0"),
        ({"streaming": True}, "streaming: received true"),
        ({"at_least": 1000}, "no word that is in 1000 paragraphs"),
    ],
)
def test_what_cannot_be_is_refused(values, says, short_text):
    with pytest.raises(ValueError, match=says):
        propose_vocabulary(corpus=str(short_text), **values)
    assert not Path("runs").exists()


def test_a_corpus_that_is_given_twice_is_refused(capsys):
    assert cli.main(["vocab", "meditations", "--corpus", "meditations"]) == 2
    assert "corpus: received 'meditations' and --corpus 'meditations'" in capsys.readouterr().err
