"""metrics.json is what its types say: what is written, what is documented, and what is read."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import jsonschema
import metrics_schema
import pytest
from conftest import ROOT

from mlm_recipes import evaluate, metrics_file, reference, train
from mlm_recipes.cli import main
from mlm_recipes.report import run_report

#: So that measuring takes a second.
LITTLE = {"eval_draws": 2, "pseudo_perplexity_tokens": 500}

EARLIER = ROOT / "tests/fixtures/interrupted_run/whole/metrics.json"


def earlier():
    """What a run left before there was a schema_version."""
    return json.loads(EARLIER.read_text("utf-8"))


def test_the_committed_schema_is_that_of_the_types():
    assert metrics_schema.PATH.read_text("utf-8") == metrics_schema.text(), "run: python tests/metrics_schema.py"


def test_a_file_of_version_0_lacks_nothing_but_the_version():
    metrics_schema.check({"schema_version": metrics_file.SCHEMA_VERSION} | earlier())


def test_a_run_and_an_evaluation_are_as_the_schema_says(short_text, checkpoint):
    lines = short_text.read_text("utf-8").splitlines()
    Path("table.csv").write_text("\n".join(["said", *(f'"{line}"' for line in lines[:48] if '"' not in line)]))
    Path("other.txt").write_text("\n".join(lines[48:]))
    Path("prompts.txt").write_text("The [MASK] of man.\n")
    result = train(
        "adapt", model=str(checkpoint), corpus="table.csv", validation_corpus="other.txt", deduplicate="exact",
        max_steps=2, eval_strategy="steps", eval_steps=1, logging_steps=1, save_strategy="no", max_length=32,
        prompts="prompts.txt", **LITTLE,
    )  # fmt: skip
    written = json.loads((result.output_dir / "metrics.json").read_text("utf-8"))
    assert list(written)[:2] == ["schema_version", "corpus"]
    assert written["schema_version"] == 1
    assert written == result.metrics
    metrics_schema.check(written)
    assert written["corpus"]["text_column: said"] == 1
    assert "fingerprint" in written["corpus"]["validation_corpus"]
    assert len(written["train"]["evaluations"]) == 2
    measured = evaluate(result.output_dir).metrics
    metrics_schema.check(measured, "EvaluationMetrics")
    assert list(measured) == ["corpus", "evaluation", "versions"]


def test_the_reference_is_as_the_schema_says(short_text, checkpoint):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 32, **LITTLE}
    result = reference("tutorial", num_train_epochs=1, **values)
    metrics_schema.check(json.loads((result.output_dir / "metrics.json").read_text("utf-8")))


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("corpus",),
        ("corpus", "word_frequencies"),
        ("before",),
        ("after", "first_draw"),
        ("after", "fill_mask", 0),
        ("change", "held_out"),
        ("change", "held_out", "measures", "loss"),
        ("change", "held_out", "pseudo_perplexity_sample"),
        ("gain",),
        ("bands", 0),
        ("pieces", 0),
        ("words",),
        ("train",),
        ("train", "history", 0),
        ("train", "machine_limit"),
        ("train", "peak_memory"),
        ("train", "tokens"),
    ],
    ids=lambda place: ".".join(map(str, place)) or "all",
)
def test_a_key_too_many_and_a_key_too_few_are_errors(place):
    def with_change(change):
        metrics = {"schema_version": 1} | copy.deepcopy(earlier())
        within = metrics
        for step in place:
            within = within[step]
        change(within)
        return metrics

    with pytest.raises(jsonschema.ValidationError):
        metrics_schema.check(with_change(lambda within: within.update({"undescribed": 1})))
    with pytest.raises(jsonschema.ValidationError):
        metrics_schema.check(with_change(lambda within: within.pop(next(iter(within)))))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), 2),
        (("corpus", "words"), "many"),
        (("corpus", "streamed"), True),
        (("train", "history", 0, "step"), 1.5),
        (("train", "recipe"), "quickstart"),
        (("after", "fill_mask", 0, "top", 0), ["token"]),
        (("versions", "torch"), None),
    ],
)
def test_a_value_of_another_type_is_an_error(place, value):
    metrics = within = {"schema_version": 1} | earlier()
    for step in place[:-1]:
        within = within[step]
    within[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        metrics_schema.check(metrics)


def in_a_folder(metrics):
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text("seed: 1\n")
    Path("run/metrics.json").write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
    return Path("run")


def test_a_file_without_a_version_is_drawn():
    shutil.copy(EARLIER, in_a_folder({}) / "metrics.json")
    assert all(page.is_file() for page in run_report.write("run"))
    assert "schema_version" not in json.loads(Path("run/metrics.json").read_text("utf-8"))


def test_a_file_of_a_later_version_is_refused(capsys):
    folder = in_a_folder({"schema_version": 2} | earlier())
    says = (
        r"report: '.*metrics\.json' has schema_version 2, so a later version of mlm-recipes wrote it\. Accepted: 0 "
        r"\(a file without schema_version\) to 1\. Upgrade mlm-recipes\."
    )
    with pytest.raises(ValueError, match=says):
        run_report.read_metrics(folder)
    assert main(["compare", str(folder), str(folder)]) == 2
    assert "has schema_version 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "held",
    [
        "{", "[]", "null", "{}",
        {"schema_version": "1"} | earlier(),
        {"schema_version": -1} | earlier(),
        {name: value for name, value in earlier().items() if name != "after"},
        {name: value for name, value in earlier().items() if name != "gain"},
    ],
)  # fmt: skip
def test_what_no_run_writes_is_refused(held):
    with pytest.raises(ValueError, match=r"does not hold a run's metrics\. Accepted: JSON as in docs/metrics\.md"):
        run_report.read_metrics(in_a_folder(held))


def test_metrics_without_a_comparison_say_what_failed():
    metrics = {name: value for name, value in earlier().items() if name not in ("gain", "change")}
    folder = in_a_folder(metrics | {"not_made": [{"what": "the comparison", "why": "OSError: full"}]})
    with pytest.raises(ValueError, match=r"no comparison, which failed: the comparison: OSError: full\. Accepted"):
        run_report.read_metrics(folder)
