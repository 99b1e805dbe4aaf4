"""A run that other texts are mixed into: what it reads, measures, says, and repeats."""

from __future__ import annotations

import logging

import metrics_schema
import pytest
import torch
from conftest import ROOT, make_model
from launched import found_by_each, run_together
from safetensors.torch import load_file
from same_run import assert_same_run
from two_mixed_processes import mixture
from two_processes import STEPS
from two_processes import train as train_in_one

from mlm_recipes import evaluate, inspect_corpus, reference, train, verify
from mlm_recipes.data.mixed_rows import IDS_OF_A_TEXT
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.prepare import prepare

SHORT = {"max_steps": 3, "per_device_train_batch_size": 8, "max_length": 64, "vocab_size": 500, "eval_draws": 1}
SHORT |= {"pseudo_perplexity_tokens": 500, "prompts_compared": 6}
GENERAL = (ROOT / "mlm_recipes/bundled/corpora/general-english.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text):
    folder = tmp_path_factory.mktemp("run") / "mixed"
    return train("quickstart", corpus=str(short_text), output_dir=str(folder), mix="general=0.25", **SHORT)


def prepared(corpus, **changes):
    return prepare(read_config("quickstart", {"corpus": str(corpus), **SHORT, **changes}))


def ids(rows):
    return {tuple(each) for each in rows["input_ids"]}


@pytest.mark.slow
def test_the_run_says_what_was_mixed_in(run):
    metrics = run.metrics
    metrics_schema.check(metrics)
    (planned,), (read,) = metrics["corpus"]["mixed"], metrics["train"]["mixed"]
    assert planned["name"] == read["name"] == "general-english"
    assert (planned["paragraphs"], planned["left_out"], planned["licence"]) == (30, 30, "CC0-1.0")
    assert planned["share"] == pytest.approx(planned["asked_share"], rel=0.05)
    assert read["times_read"] == pytest.approx(read["rows"] / planned["rows"])
    assert 0 < read["tokens"] < metrics["train"]["tokens"]["real"]
    assert read["share"] == pytest.approx(read["tokens"] / metrics["train"]["tokens"]["real"])
    assert metrics["change"]["general"]["paragraphs"] == 30
    said = f"Mixed in: general-english, {read['rows']} rows with"
    assert said in " ".join(str(run).split())
    card = (run.output_dir / "README.md").read_text("utf-8")
    assert said in card
    assert "Mixed into training, general-english: CC0-1.0." in card
    report = (run.output_dir / "report.html").read_text("utf-8")
    assert report.count("mixed in") == 2
    assert f"{read['rows']} rows with" in report


@pytest.mark.slow
def test_the_recipe_repeats_the_run(run, tmp_path):
    again = train(run.output_dir, output_dir=str(tmp_path / "again"))
    assert again.metrics["train"]["mixed"] == run.metrics["train"]["mixed"]
    ours, theirs = (load_file(result.output_dir / "model.safetensors") for result in (again, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_the_finished_model_is_measured_on_the_same_half(run):
    """The other half was trained on."""
    found = evaluate(model=str(run.output_dir)).metrics["evaluation"]["general"]
    assert found["loss"] == pytest.approx(run.metrics["after"]["general"]["loss"], rel=1e-4)


def test_no_paragraph_is_both_mixed_in_and_measured(short_text, tmp_path):
    lines = short_text.read_text("utf-8").splitlines()
    notes = tmp_path / "notes.txt"
    notes.write_text("\n".join([*(line.upper() for line in lines), *GENERAL, "One more."]), encoding="utf-8")
    found = prepared(short_text, mix={"general": 0.1, str(notes): 0.2})
    held_out, general = found.measured.held_out.rows, found.measured.general.rows
    assert len(held_out) == 6
    assert len(general) >= 30
    rows = found.train_rows
    mixed = rows.rows.select(range(rows.own, len(rows.rows)))
    assert not ids(mixed) & ids(general)
    assert not ids(mixed) & ids(held_out)
    first, second = found.facts["mixed"]
    assert (first["paragraphs"], first["left_out"]) == (30, 30)
    assert (second["paragraphs"], second["left_out"]) == (54 + 30 + 1, 6 + 30), "copies of what is measured"
    assert {each // IDS_OF_A_TEXT for each in rows.rows["example_id"]} == {0, 1, 2}
    assert [part.name for part in rows.parts] == ["general-english", "notes"]


def test_what_is_said_before_training(short_text):
    said = prepared(short_text, mix="general=0.25").announcement()
    assert "Mixed in: general-english, 2" in said
    assert "% of the training tokens: 30 paragraphs, " in said
    assert "30 paragraphs of general-english are not mixed in, since they are measured." in said
    assert "of general-english are not measured" not in said
    assert "That is often" not in said
    often = prepared(short_text, mix="general=0.5", max_steps=-1, num_train_epochs=40)
    assert "That is often for a text of 30 paragraphs: a longer one" in often.announcement()


def test_without_a_measured_general_text_all_of_it_is_mixed_in(short_text):
    found = prepared(short_text, model="mini-random", mix="general=0.25")
    assert found.measured.general is None
    assert (found.facts["mixed"][0]["paragraphs"], found.facts["mixed"][0]["left_out"]) == (60, 0)


def test_texts_of_one_name_are_both_mixed_in(short_text, tmp_path):
    files = [tmp_path / "a" / "letters.txt", tmp_path / "b" / "letters.txt", tmp_path / "letters"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"Dear friend, {file.parent.name} is where I write.\n\nYours, {file.name}.\n", "utf-8")
    found = prepared(short_text, mix=[f"{file}=0.1" for file in files])
    names = ["letters", "letters (2)", "letters (3)"]
    assert [part.name for part in found.train_rows.parts] == names
    assert [(text["name"], text["source"]) for text in found.facts["mixed"]] == [
        (name, str(file)) for name, file in zip(names, files, strict=True)
    ]
    assert "Mixed in: letters, 1" in found.announcement()
    assert "letters (2), " in found.announcement()


def test_what_cannot_be_mixed_is_refused(short_text, tmp_path):
    with pytest.raises(ValueError, match=r"^mix: 'generall' is not a known corpus"):
        prepared(short_text, mix="generall=0.1")
    with pytest.raises(FileNotFoundError, match=r"^mix: "):
        prepared(short_text, mix="./nothing.txt=0.1")
    chinese = tmp_path / "chinese.txt"
    chinese.write_text("\u5929\u5730\u7384\u9ec3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="mix: none of the words of 'chinese' is in the vocabulary of 'mini'"):
        prepared(short_text, mix=f"{chinese}=0.1")
    with pytest.raises(ValueError, match=r"mix: received {'general': 0\.1}\. Accepted here: None, since the tutorial"):
        reference(mix="general=0.1")


def test_an_inspection_leaves_the_mixture_out_and_says_so(short_text, caplog):
    caplog.set_level(logging.INFO)
    inspect_corpus(corpus=str(short_text), mix="general=0.1", timing=False)
    assert "mix is left out: only the corpus is inspected" in caplog.text


@pytest.mark.slow
def test_a_run_with_a_mixture_is_verified(short_text):
    found = verify("quickstart", corpus=str(short_text), mix="general=0.25", model="mini-random")
    assert found.ok, str(found)


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_weights(short_text):
    values = {"corpus": str(short_text), "mix": "general=0.25", "save_strategy": "steps", **SHORT, "max_steps": 16}
    whole = train("quickstart", output_dir="whole", save_steps=9, **values)  # an epoch has 9 or 10 steps
    again = train("quickstart", output_dir="again", save_steps=9, resume_from_checkpoint="whole/checkpoint-9", **values)
    assert again.metrics["train"]["mixed"] == whole.metrics["train"]["mixed"]
    ours, theirs = (load_file(result.output_dir / "model.safetensors") for result in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_two_processes_are_the_run_of_one_and_resume_to_the_bit(tmp_path):
    rows, tokenizer = mixture()
    assert len(rows) == 35
    alone = train_in_one(rows, tokenizer, make_model("bert", tokenizer), (8, 1))
    run_together(2, ROOT / "tests/two_mixed_processes.py", tmp_path)
    first, second = found_by_each(2, tmp_path)
    assert_same_run(first["plain"], alone, make_model("bert", tokenizer), STEPS)
    assert torch.equal(first["plain"][1], second["plain"][1])
    for step, resumed in first["resumed"].items():
        assert torch.equal(resumed[1], first["whole"][1]), step
