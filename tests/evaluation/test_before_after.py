"""A complete run's metrics.json matches its description in docs/metrics.md."""

from __future__ import annotations

import json
import re

import pytest
from conftest import ROOT, make_bert
from same_run import loss_bound
from transformers import AutoModelForMaskedLM, BertModel

from mlm_recipes import MLMTrainer, evaluate, train

DOCUMENT = (ROOT / "docs/metrics.md").read_text("utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text, checkpoint):
    """A run of a pretrained model that is also evaluated during training."""
    folder = tmp_path_factory.mktemp("run")
    return train(
        "adapt", model=str(checkpoint), corpus=str(short_text), validation_fraction=0.25, max_steps=4, max_length=32,
        learning_rate=1e-3, eval_strategy="steps", eval_steps=2, save_strategy="no", output_dir=str(folder / "out"),
    )  # fmt: skip


def keys(value):
    """Yield all keys of nested data."""
    if isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each)


def test_every_key_is_documented(run):
    metrics = {name: value for name, value in run.metrics.items() if name != "versions"}
    named = set(re.findall(r"`(\w+)`", DOCUMENT)) | set(re.findall(r'"(\w+)":', DOCUMENT))
    assert len(set(keys(metrics))) > 60
    assert {key for key in keys(metrics) if key not in named} == set()


@pytest.mark.parametrize("number", range(len(re.findall(r"```json", DOCUMENT))))
def test_every_example_in_the_documentation_has_a_runs_structure(run, number):
    example = json.loads(re.findall(r"```json\n(.*?)```", DOCUMENT, flags=re.DOTALL)[number])
    metrics = run.metrics
    like = [
        metrics["change"]["held_out"], *metrics["bands"], *metrics["pieces"], metrics["words"],
        *metrics["after"]["fill_mask"],
    ]  # fmt: skip
    assert any(set(keys(example)) == set(keys(real)) for real in like), set(keys(example))


def test_before_and_after_match_the_change(run):
    metrics = run.metrics
    for text, of in (("held_out", lambda entry: entry), ("general", lambda entry: entry["general"])):
        change = metrics["change"][text]
        for name, measure in change["measures"].items():
            assert (measure["before"], measure["after"]) == (of(metrics["before"])[name], of(metrics["after"])[name])
            assert measure["low"] <= measure["change"] <= measure["high"]
        assert change["masked_tokens"] == of(metrics["after"])["masked_tokens"]
    assert metrics["gain"]["loss"] == pytest.approx(-metrics["change"]["held_out"]["measures"]["loss"]["change"])


def test_bands_pieces_and_the_text_have_the_same_tokens(run):
    total = run.metrics["change"]["held_out"]["masked_tokens"]
    for parts in (run.metrics["bands"], run.metrics["pieces"]):
        assert sum(part["masked_tokens"] for part in parts) == total
        loss = sum(part["masked_tokens"] * part["measures"]["loss"]["after"] for part in parts) / total
        assert loss == pytest.approx(run.metrics["after"]["loss"])


def test_evaluations_during_training_are_comparable_with_the_first_draw(run):
    evaluations = run.metrics["train"]["evaluations"]
    assert [entry["step"] for entry in evaluations] == [2, 4]
    last, after = evaluations[-1], run.metrics["after"]["first_draw"]
    # A perplexity's rounding depends on the loss, not on a share of it.
    bound = after["loss"] * loss_bound(AutoModelForMaskedLM.from_pretrained(run.output_dir))
    for name in ("loss", "accuracy", "perplexity"):
        assert last[name] == pytest.approx(after[name], rel=bound)


def test_metrics_contain_the_runs_costs(run):
    told = run.metrics["train"]
    assert told["tokens"]["real"] == pytest.approx(told["tokens_per_second"] * told["seconds"])
    assert told["steps_per_second"] * told["seconds"] == pytest.approx(4)
    assert told["tokens"]["padding"] == 0
    assert told["command"] is None  # started from Python
    assert told["peak_memory"]["bytes"] > 1e8
    assert told["evaluation_seconds"] > 0
    assert told["head_initialised"] == []


def test_the_history_contains_the_steps(run):
    assert [entry["step"] for entry in run.metrics["train"]["history"]] == [1, 2, 3, 4]
    assert all(
        {"step", "loss", "learning_rate", "grad_norm"} == set(entry) for entry in run.metrics["train"]["history"]
    )


@pytest.mark.slow
def test_a_single_model_has_the_same_measures(run):
    found = evaluate(run.output_dir).metrics["evaluation"]
    after = run.metrics["after"]
    for name in (
        "loss",
        "perplexity",
        "accuracy",
        "top5_accuracy",
        "pseudo_perplexity",
        "loss_per_word",
        "first_draw",
        "general",
    ):
        assert found[name] == after[name]  # the same batches in the same process
    assert found["distinct_tokens"] == run.metrics["change"]["held_out"]["distinct_tokens"]
    assert {entry["chosen"] for entry in found["fill_mask"]} == {"at random"}
    documented = {
        "model",
        "tokenizer",
        "random_weights",
        "head_initialised",
        "draws",
        "distinct_tokens",
        "pseudo_perplexity_sample",
        "word_sample",
    }
    assert set(found) == set(after) | documented


@pytest.mark.slow
def test_the_users_prompts_are_filled_before_and_after(tmp_path, checkpoint, short_text, monkeypatch):
    told, log = [], MLMTrainer.log
    monkeypatch.setattr(MLMTrainer, "log", lambda self, logs, *more: told.append(logs) or log(self, logs, *more))
    (tmp_path / "mine.txt").write_text("The [MASK] of man.\n")
    result = train(
        "adapt", model=str(checkpoint), corpus=str(short_text), max_steps=1, general_corpus="none", prompts="mine.txt",
        save_strategy="no",
    )  # fmt: skip
    for when in ("before", "after"):
        (entry,) = result.metrics[when]["fill_mask"]
        assert (entry["prompt"], entry["answer"], entry["chosen"]) == ("The [MASK] of man.", None, "yours")
    assert result.metrics["train"]["prompts_compared"] == 0
    # Trackers get the measures before and after under the names of those during training.
    ends = [result.metrics[when]["first_draw"]["loss"] for when in ("before", "after")]
    assert [logs["eval_loss"] for logs in told if "eval_loss" in logs] == ends
    assert "yours: The [MASK] of man." in str(result)
    (tmp_path / "mine.txt").write_text("no mask\n")
    with pytest.raises(ValueError, match=r"line 1 of 'mine\.txt' has no"):
        train("adapt", model=str(checkpoint), corpus=str(short_text), prompts="mine.txt", output_dir="none")
    assert not (tmp_path / "none").exists()  # detected before anything was written


@pytest.mark.slow
def test_a_head_missing_in_the_checkpoint_is_reported_everywhere(tmp_path, tokenizer, short_text):
    bare: BertModel = make_bert(tokenizer).bert
    bare.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    values = {"model": str(tmp_path / "bare"), "corpus": str(short_text), "general_corpus": "none"}
    result = train("adapt", max_steps=1, save_strategy="no", **values)
    assert "cls.predictions.bias" in result.metrics["train"]["head_initialised"]
    says = "This model came without a trained masked-language-modelling head"
    for page in (str(result), (result.output_dir / "report.html").read_text(), str(evaluate("adapt", **values))):
        assert says in " ".join(page.split())
