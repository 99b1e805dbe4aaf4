from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from example_metrics import HOSTILE, measure, metrics, with_change

from mlm_recipes.report import before_after_table, last_screen, run_report, wording


def write(folder: Path, values) -> None:
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    (folder / "recipe.yaml").write_text("seed: 1\n")


def test_the_report_reads_only_the_run_folder_and_can_be_redrawn(tmp_path):
    write(tmp_path, metrics())
    assert [path.name for path in run_report.write(tmp_path)] == ["report.html", "README.md"]
    first = (tmp_path / "report.html").read_text("utf-8")
    (tmp_path / "report.html").unlink()
    run_report.write(tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8") == first
    for expected in (
        "8.000",
        "6.500",
        "-1.500",
        "403.4",
        "fell by 1.50 nats per token (95% interval 1.20 to 1.80) on 500 masked tokens of 20 paragraphs",
        "random weights",
        "1,234",
        "8.100 at step 1, 6.200 at step 2",
    ):
        assert expected in first, expected


def test_no_text_becomes_markup(tmp_path):
    write(tmp_path, metrics())
    run_report.write(tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert HOSTILE in last_screen.summary(metrics()).replace("\n", "") or "[bold]" in last_screen.summary(metrics())


def test_the_page_loads_nothing(tmp_path):
    write(tmp_path, metrics())
    run_report.write(tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert not re.findall(r"src=|(?:href=\"|url\()(?!#)|@import|https?://", page)


def test_the_model_card_has_metadata_that_parses(tmp_path):
    write(tmp_path, metrics())
    run_report.write(tmp_path)
    _, front, body = (tmp_path / "README.md").read_text("utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "fill-mask"
    assert "| loss (nats) | 8.000 | 6.500 | -1.500 | 6.000 |" in body


def test_a_run_without_a_logged_loss_has_a_report_too(tmp_path):
    write(tmp_path, metrics(history=[]))
    run_report.write(tmp_path)
    assert "Training loss" not in (tmp_path / "report.html").read_text("utf-8")


def test_a_run_that_got_worse_is_reported_and_fits_the_table():
    values = metrics()
    values["after"] |= {"loss": 400.0, "perplexity": 1e173}
    values["gain"] |= {"loss": -392.0, "low": -393.0, "high": -391.0}
    assert "rose by 392.00 nats per token (95% interval 391.00 to 393.00)" in wording.note(values)
    assert "Try a lower --learning_rate" in wording.note(values)
    assert "1.0e+173" in last_screen.summary(values)
    assert max(map(len, last_screen.summary(values).splitlines())) <= 110
    assert "rose" not in wording.note(metrics())
    assert "Try" not in wording.headline(metrics())


def test_packed_rows_are_not_called_paragraphs():
    values = metrics()
    values["gain"]["rows"] = values["gain"].pop("paragraphs")
    assert "on 500 masked tokens of 20 rows, the same before and after" in wording.headline(values)
    values["gain"]["rows"] = 1
    assert "changed by -1.50 nats per token on 500 masked tokens of 1 row," in wording.headline(values)


def test_a_handful_of_paragraphs_has_no_interval():
    values = metrics()
    values["gain"]["paragraphs"] = 9
    assert "changed by -1.50 nats per token on 500 masked tokens of 9 paragraphs" in wording.headline(values)
    assert "interval" not in wording.headline(values).replace("too few for an interval", "")


def test_an_interval_that_includes_zero_is_no_measurable_change():
    values = metrics()
    values["gain"] |= {"loss": 0.02, "low": -0.01, "high": 0.05}
    assert wording.headline(values).startswith("No measurable change: ")
    assert "95% interval -0.01 to 0.05 includes zero" in wording.headline(values)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (3.9, "Nothing was forgotten: on plain (90 masked tokens) the loss fell by 0.10 nats"),
        (4.3, "Little was forgotten: on plain (90 masked tokens) the loss rose by 0.30 nats, less than a quarter"),
        (4.4, "Something was forgotten: on plain (90 masked tokens) the loss rose by 0.40 nats, 4.00 to 4.40."),
    ],
)
def test_the_change_on_ordinary_language_is_reported(loss, says):
    values = metrics(random_weights=False)
    assert "forgotten" not in wording.note(values)
    values["corpus"]["general"] = "plain"
    values["before"]["general"] = {"loss": 4.0, "masked_tokens": 90}
    values["after"]["general"] = {"loss": loss, "masked_tokens": 90}
    assert says in wording.note(values)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (4.0, "random weights; word frequencies alone give a loss of 6.00"),
        (5.9, "From 1,234 words such a model learns little more than how often each word occurs"),
        (6.1, "So far it has not learned even how often each word occurs"),
    ],
)
def test_random_weights_are_compared_with_word_frequencies(loss, says):
    values = metrics()
    values["after"]["loss"] = loss
    assert says in wording.note(values)
    values["train"]["random_weights"] = False
    assert ("worse than word frequencies alone" in wording.note(values)) == (loss > 6.0)


def test_the_suggested_command_uses_a_prompt_of_the_run(tmp_path):
    screen = " ".join(last_screen.summary(metrics(), tmp_path).split())
    assert "Try it: " in screen
    assert "[MASK] of man.'" in screen


def test_few_masked_tokens_are_reported():
    values = metrics()
    assert "few" not in wording.note(values)
    values["after"]["masked_tokens"] = 150
    assert "There are few masked tokens" in wording.note(values)


def test_a_pretrained_model_is_not_told_to_use_one():
    assert "random weights" not in wording.note(metrics(random_weights=False))


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.json"):
        run_report.write(tmp_path)


def test_the_table_has_intervals_and_marks_changes_that_are_not_measurable():
    rows = before_after_table.table_rows(with_change())
    assert rows == [
        ("held-out text", "before", "after", "change", "95% interval", "word frequencies alone"),
        ("loss (nats)", "3.000", "2.500", "-0.500", "-0.60 to -0.40", "6.000"),
        ("perplexity", "20.0", "12.0", "-8.0", "-9.0 to -6.5", "403.4"),
        ("pseudo-perplexity", "15.0", "10.0", "-5.0", "-6.0 to -4.0", ""),
        ("accuracy", "30.0%", "34.0%", "+4.0", "+2.0 to +6.0", "5.0%"),
        ("top-5 accuracy", "50.0%", "51.0%", "no measurable change", "-1.0 to +3.0", ""),
    ]


def test_ordinary_language_is_in_the_same_table():
    values = with_change()
    values["change"]["general"] = {
        "text": "plain",
        "measures": {"loss": measure(2.0, 2.1, None, None, "too few paragraphs")},
    }
    assert before_after_table.table_rows(values)[6:] == [
        ("plain", "", "", "", "", ""),
        ("loss (nats)", "2.000", "2.100", "+0.100", "too few paragraphs", ""),
    ]


@pytest.mark.parametrize(("tokens", "warned"), [(199, True), (200, False)])
def test_few_masked_tokens_are_a_row_of_the_table_on_every_page(tmp_path, tokens, warned):
    values = with_change(distinct_tokens=tokens)
    says = "only 199 masked tokens: a hint, not a result"
    assert any(says == row[0] for row in before_after_table.table_rows(values)) is warned
    write(tmp_path, values)
    run_report.write(tmp_path)
    for name in run_report.FILES:
        assert (says in (tmp_path / name).read_text("utf-8")) is warned
    assert ("There are few masked tokens" in wording.note(values)) is warned


def test_the_model_cards_table_has_as_many_columns_as_its_header(tmp_path):
    write(tmp_path, with_change())
    run_report.write(tmp_path)
    table = [line for line in (tmp_path / "README.md").read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(table) == 7
    assert {line.count("|") for line in table} == {7}


@pytest.mark.parametrize("columns", [72, 80, 110])
def test_the_screen_fits_the_terminal_and_loses_no_figure(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = last_screen.summary(with_change())
    assert max(map(len, screen.splitlines())) <= columns
    for figure in ("6.000", "403.4", "-9.0 to -6.5", "no measurable", "+2.0 to +6.0"):
        assert figure in screen


def test_prompts_show_how_they_were_chosen_and_their_probabilities():
    values = with_change()
    for when, p in (("before", 0.125), ("after", 0.5)):
        values[when]["fill_mask"] = [
            {"prompt": "The [MASK] of man.", "answer": "soul", "chosen": "fell most", "probability": p,
             "top": [["soul", p], ["mind", 0.1], ["life", 0.05], ["x", 0.01], ["y", 0.01]]},
            {"prompt": "My [MASK].", "answer": None, "chosen": "yours", "probability": None, "top": [["own", p]]},
        ]  # fmt: skip
    screen = last_screen.summary(values)
    assert "fell most: The [MASK] of man.  (soul)\n  before  soul 12% \u00b7 mind 10% \u00b7 life 5%\n" in screen
    assert "yours: My [MASK].\n  before  own 12%\n  after   own 50%\n" in screen
    assert "None" not in screen
