from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import metrics_schema
import numpy as np
import pytest

from mlm_recipes import MLMConfig, evaluate, inspect_corpus, reference, train
from mlm_recipes.evaluation.probes.features import layer_means
from mlm_recipes.report.side_by_side import compare_runs
from mlm_recipes.training.trainers import probing_trainer

LITTLE = {
    "eval_draws": 1, "pseudo_perplexity_tokens": 200, "prompts_compared": 4, "general_corpus": "none", "max_length": 32,
    "max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "save_strategy": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, corpus):
    """Eighty texts: half are held-out paragraphs, half the same words sorted; two are in the training text."""
    texts = [" ".join(text.split()[:20]) for text in corpus["validation"]["text"][:39]]
    rows = [(text, "written") for text in texts] + [(" ".join(sorted(text.split())), "sorted") for text in texts]
    rows += [(text, "written") for text in corpus["train"]["text"][:2]]
    path = tmp_path_factory.mktemp("labels") / "order.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoint, labelled):
    folder = tmp_path_factory.mktemp("run") / "probed"
    return train("adapt", model=str(checkpoint), probe=str(labelled), output_dir=str(folder), **LITTLE)


def test_a_run_measures_its_probe_before_and_after(run):
    written = json.loads((run.output_dir / "metrics.json").read_text("utf-8"))
    metrics_schema.check(written)
    assert written == run.metrics
    (probe,) = written["probes"]
    assert (probe["name"], probe["texts"], probe["labels"]) == ("order", 80, {"sorted": 39, "written": 41})
    assert probe["leakage"] == {"exact": 2, "near": 0}
    assert probe["not_leaked"].keys() == probe["accuracy"].keys()
    assert [point["labels"] for point in probe["learning_curve"]] == [16, 64]
    assert len(probe["chosen_before"]["layers"]) == probe["folds"] == 5
    assert "not_made" not in written


def test_the_result_is_said_everywhere(run):
    (probe,) = run.metrics["probes"]
    figures = f"{probe['accuracy']['before']:.1%} -> {probe['accuracy']['after']:.1%}"
    said = " ".join(str(run).split())
    assert "Classifying order: " in said
    assert figures in said
    assert "2 of its 80 texts are in the training text" in said
    page = (run.output_dir / "report.html").read_text("utf-8")
    assert "On your labels" in page
    assert figures.replace(">", "&gt;") in page
    assert 'aria-labelledby="probe-curve-1-title"' in page
    card = (run.output_dir / "README.md").read_text("utf-8")
    assert "task:\n      type: text-classification" in card
    assert f"value: {round(probe['accuracy']['after'], 4)}" in card
    beside = str(compare_runs([run.output_dir, run.output_dir]))
    assert "order, accuracy, 95% interval" in beside


@pytest.mark.slow
def test_the_recipe_repeats_the_probe_and_its_first_features_are_kept(run, monkeypatch, tmp_path):
    calls = []

    def counted(*args, **more):
        calls.append(1)
        return layer_means(*args, **more)

    monkeypatch.setattr(probing_trainer, "layer_means", counted)
    again = train(run.output_dir / "recipe.yaml", output_dir=str(tmp_path / "again"), use_cpu=True)
    assert len(calls) == 1  # after training: those before are on disk
    (old,), (new,) = run.metrics["probes"], again.metrics["probes"]
    assert {**old, "seconds": 0} == {**new, "seconds": 0}


@pytest.mark.slow
def test_training_is_the_same_with_and_without_a_probe(run, checkpoint, tmp_path):
    without = train("adapt", model=str(checkpoint), output_dir=str(tmp_path / "without"), **LITTLE)
    assert "probes" not in without.metrics
    assert without.metrics["after"]["loss"] == run.metrics["after"]["loss"]
    assert without.metrics["train"]["history"] == run.metrics["train"]["history"]


@pytest.mark.slow
def test_a_model_alone_is_measured(run, labelled):
    measured = evaluate(run.output_dir)
    metrics_schema.check(measured.metrics, "EvaluationMetrics")
    (probe,) = measured.metrics["evaluation"]["probes"]
    (trained,) = run.metrics["probes"]
    assert probe["accuracy"] == trained["accuracy"]["after"]
    assert probe["low"] < probe["accuracy"] < probe["high"]
    assert f"Classifying order: {probe['accuracy']:.1%}" in str(measured)


@pytest.mark.slow
def test_a_probe_selects_the_best_checkpoint_on_texts_that_are_not_measured(checkpoint, labelled, tmp_path):
    found = train(
        "adapt", model=str(checkpoint), probe=str(labelled), output_dir=str(tmp_path / "run"),
        metric_for_best_model="probe_accuracy", eval_strategy="steps", eval_steps=1, early_stopping_patience=1,
        load_best_model_at_end=True, **LITTLE | {"max_steps": 4, "save_strategy": "best"},
    ).metrics  # fmt: skip
    metrics_schema.check(found)
    (probe,) = found["probes"]
    assert probe["texts"] + probe["selected"] == 80
    values = [entry["probe_accuracy"] for entry in found["train"]["evaluations"]]
    best = found["train"]["best_model"]
    assert (best["metric"], best["value"], best["loaded"]) == ("probe_accuracy", max(values), True)
    assert all(np.isclose(value * probe["selected"], round(value * probe["selected"])) for value in values)
    (again,) = evaluate(tmp_path / "run").metrics["evaluation"]["probes"]
    assert again["texts"] == probe["texts"]
    other = shutil.copy(labelled, tmp_path / "other.csv")
    (whole,) = evaluate(tmp_path / "run", probe=str(other)).metrics["evaluation"]["probes"]
    assert whole["texts"] == 80  # it selected nothing


@pytest.mark.slow
def test_two_tables_of_one_name_are_told_apart(checkpoint, labelled, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / labelled.name
    other.write_text("".join(labelled.read_text("utf-8").splitlines(keepends=True)[:-10]), "utf-8")
    for name, probes in (("one", [str(labelled)]), ("both", [str(other), str(labelled)])):
        train("adapt", model=str(checkpoint), probe=probes, output_dir=str(tmp_path / name), **LITTLE)
    found = json.loads((tmp_path / "both/metrics.json").read_text("utf-8"))["probes"]
    assert [(probe["name"], probe["texts"]) for probe in found] == [("order", 70), ("order (2)", 80)]
    rows = dict(compare_runs([tmp_path / "one", tmp_path / "both"]).tables())["Your labels"]
    assert ("order, texts", "80", "70") in rows
    assert ("order (2), texts", "", "80") in rows


def test_an_inspection_says_what_a_probe_can_show(labelled):
    found = inspect_corpus("quickstart", probe=str(labelled), timing=False)
    (probe,) = found.facts["probes"]
    assert probe["texts_needed"] > 1_500 > probe["texts"]
    said = " ".join(str(found).split())
    assert f"would be measured in {probe['power']:.0%} of runs" in said
    assert f"It takes {probe['texts_needed']:,} labelled texts" in said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"probe": ["stoic", "stoic"]}, "probe: received 'stoic' more than once"),
        ({"probe_label_column": "label"}, "probe_label_column: received 'label' without a probe"),
        ({"probe": "stoic", "max_probe_samples": 10}, "max_probe_samples: received 10"),
        ({"metric_for_best_model": "probe_accuracy", "eval_strategy": "epoch"}, "without a probe"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**values)


def test_one_name_is_a_list_of_one():
    assert MLMConfig(probe="stoic", use_cpu=True).probe == ["stoic"]
    assert MLMConfig(use_cpu=True).to_recipe()["probe"] is None


def test_a_table_that_is_not_there_is_refused_before_anything_is_written(checkpoint):
    with pytest.raises(FileNotFoundError, match=r"'missing\.csv'"):
        train("adapt", model=str(checkpoint), probe="missing.csv", output_dir="run", **LITTLE)
    assert not Path("run").exists()


def test_the_tutorials_loop_has_no_probe(checkpoint):
    with pytest.raises(ValueError, match=r"probe: received \['stoic'\]. Accepted here: None"):
        reference("tutorial", model=str(checkpoint), probe="stoic")
