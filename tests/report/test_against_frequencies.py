from __future__ import annotations

import pytest
from example_metrics import measure, with_change

from mlm_recipes.report import last_screen, model_card, report_page, wording
from mlm_recipes.report.against_frequencies import knew_nothing
from mlm_recipes.report.side_by_side import ComparedRun, RunsSideBySide


def run(before, after, general=None, head=(), frequencies=7.0):
    """A run with these losses on the held-out text and on ordinary language; word frequencies alone have 6.0."""
    values = with_change()
    values["train"] |= {"head_initialised": list(head), "steps": 30}
    values["before"]["loss"], values["after"]["loss"] = before, after
    values["gain"] = {
        "loss": before - after,
        "low": before - after - 0.1,
        "high": before - after + 0.1,
        "paragraphs": 20,
    }
    if general:
        values["corpus"] |= {"general": "plain"}
        if frequencies:
            values["corpus"]["general_word_frequencies"] = {"loss": frequencies, "accuracy": 0.05}
        measures = {"loss": measure(*general, -0.1, 0.1)}
        values["change"]["general"] = {"text": "plain", "masked_tokens": 90, "measures": measures}
        for when, loss in zip(("before", "after"), general, strict=True):
            values[when]["general"] = {"loss": loss, "masked_tokens": 90}
    return values


def test_a_model_that_is_still_worse_than_word_frequencies_is_told_so_everywhere():
    values = run(10.4, 7.2, head=["cls.predictions.bias"])
    said = (
        "After 30 steps, the model is still worse than word frequencies alone: its loss is 7.20 nats, 1.20 above "
        "theirs (6.00). Train for more steps, or start from a model that has a trained head."
    )
    screen, page = last_screen.summary(values), report_page.page(values)
    for text in (wording.note(values), screen, page, model_card.card(values)):
        assert said in " ".join(text.split())


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (10.4, 5.9, None),
        (10.4, 6.004, None),  # 6.00, as it is shown
        (10.4, 6.1, "still worse than word frequencies alone: its loss is 6.10 nats, 0.10 above theirs (6.00). Train"),
        (3.0, 9.5, "Training has made the model worse than word frequencies alone: its loss is 9.50 nats, 3.50 above"),
        (3.0, 2.5, None),
    ],
)
def test_any_model_is_compared_with_word_frequencies(before, after, says):
    note = wording.note(run(before, after))
    assert ("worse than word frequencies" in note) == (says is not None)
    assert says is None or says in note
    assert "trained head" not in note


@pytest.mark.parametrize(
    ("general", "frequencies", "head", "nothing"),
    [
        ((10.4, 8.0), 7.0, ["cls.predictions.bias"], True),
        ((10.4, 3.0), 7.0, [], True),  # a checkpoint whose weights were never trained
        ((3.0, 3.1), 7.0, [], False),
        ((3.0, 3.1), 7.0, ["cls.predictions.bias"], False),  # only a bias is new: before is a measure
        ((10.4, 8.0), None, [], True),  # runs of earlier versions
        ((5.0, 5.1), None, ["cls.predictions.decoder.weight"], True),
        ((3.0, 3.1), None, [], False),
    ],
)
def test_nothing_is_said_of_forgetting_if_before_is_no_measure(general, frequencies, head, nothing):
    values = run(10.4, 7.2, general, head, frequencies)
    assert knew_nothing(values) == nothing
    note = wording.note(values)
    cannot = "Whether anything was forgotten cannot be measured: on plain (90 masked tokens) the model was no better"
    assert (cannot in note) == nothing
    assert ("was forgotten: on plain" in note) == (not nothing)


def test_the_best_of_several_runs_may_still_be_worse():
    runs = [ComparedRun(name, run(10.4, after, (10.4, 8.0)), {}) for name, after in (("one", 7.2), ("two", 7.5))]
    said = " ".join(str(RunsSideBySide(runs, [])).split())
    assert "Even one is worse than word frequencies alone, by 1.200 nats." in said
    assert "loss of word frequencies 6.000 6.000" in said
    assert "before training no better than word no better than word frequencies frequencies" in said
    fine = [ComparedRun(name, run(3.0, after, (3.0, 3.0)), {}) for name, after in (("one", 2.5), ("two", 2.6))]
    assert "worse" not in str(RunsSideBySide(fine, []))
