"""docs/encoders.md has what benchmarks/encoders.py measured, and the rows that matter are still so."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT


def newest_encoders():
    return json.loads(max((ROOT / "benchmarks" / "results").glob("encoders_*.json")).read_text("utf-8"))


def test_the_page_of_encoders_shows_what_was_measured(benchmark):
    measured = newest_encoders()
    page = (ROOT / "docs" / "encoders.md").read_text("utf-8")
    assert page.endswith(benchmark("encoders").table(measured["rows"]) + "\n")
    assert f"transformers {measured['versions']['transformers']} and torch" in page
    assert len(measured["rows"]) > 50
    assert all(
        set(row) in ({"built"}, {"trains"}, set(benchmark("encoder_checks").CHECKS))
        for row in measured["rows"].values()
    )


def test_a_reason_is_listed_once_for_all_encoders_that_share_it(benchmark):
    rows = {
        "a": {"trains": "yes", "padding_free": "no: AForMaskedLM has its own attention"},
        "b": {
            "trains": "yes: but slowly",
            "padding_free": "no: BLMHeadModel has its own attention. Accepted: another.",
        },
        "c": {"built": "no: it is not there"},
    }
    assert benchmark("encoders").table(rows).splitlines()[2:] == [
        "| a | yes | no |  |  |  |  |  |",
        "| b | yes | no |  |  |  |  |  |",
        "| c | no | no | no | no | no | no | no |",
        "",
        "- padding_free: this model has its own attention (a, b)",
        "- trains: but slowly (b)",
        "- trains: it is not there (c)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "modernbert", "xlm-roberta"])
def test_the_encoders_that_most_people_train_are_as_the_page_says(model_type, benchmark):
    assert benchmark("encoders").ask(model_type) == newest_encoders()["rows"][model_type]
