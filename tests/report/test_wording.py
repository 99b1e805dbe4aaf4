from __future__ import annotations

import pytest
from example_metrics import measure, with_change

from mlm_recipes.report import wording


def test_a_new_head_is_reported_in_the_headline():
    values = with_change()
    assert "head" not in wording.headline(values)
    values["train"]["head_initialised"] = ["cls.predictions.bias", "cls.predictions.decoder.weight"]
    headline = wording.headline(values)
    assert headline.startswith("This model came without a trained masked-language-modelling head: 2 weights started")
    assert "The held-out loss fell by 1.50" in headline


def test_the_number_of_draws_is_reported():
    assert "on 500 masked tokens of 20 paragraphs, masked 5 times, the same before" in wording.headline(with_change())
    assert "of 20 paragraphs, the same before" in wording.headline(with_change(draws=1))


@pytest.mark.parametrize(
    ("general", "says"),
    [
        (
            measure(2.0, 2.02, -0.03, 0.07, "no measurable change"),
            "Nothing measurable was forgotten: on plain (90 masked tokens) the loss changed by +0.02 nats, and the 95% "
            "interval -0.03 to 0.07 includes zero.",
        ),
        (measure(2.0, 1.9, -0.2, -0.05), "Nothing was forgotten: on plain (90 masked tokens) the loss fell by 0.10"),
        (measure(2.0, 2.2, 0.1, 0.3, "worse"), "Little was forgotten: on plain"),
        (measure(2.0, 3.0, 0.1, 1.3, "worse"), "Something was forgotten: on plain"),
    ],
)
def test_forgetting_is_reported_if_it_is_measurable(general, says):
    values = with_change()
    values["corpus"]["general"] = "plain"
    values["change"]["general"] = {"text": "plain", "measures": {"loss": general}}
    for when in ("before", "after"):
        values[when]["general"] = {"loss": general[when], "masked_tokens": 90}
    assert says in wording.note(values)


def test_what_got_worse_is_named_though_the_loss_did_not_change_measurably():
    values = with_change()
    values["corpus"]["general"] = "plain"
    loss, accuracy = measure(2.0, 2.02, -0.03, 0.07, "no measurable change"), measure(0.4, 0.38, -0.03, -0.01, "worse")
    values["change"]["general"] = {"text": "plain", "measures": {"loss": loss, "top5_accuracy": accuracy}}
    for when in ("before", "after"):
        values[when]["general"] = {"loss": loss[when], "masked_tokens": 90}
    said = wording.note(values)
    assert "the loss did not change measurably (+0.02 nats; the 95% interval -0.03 to 0.07 includes zero), but" in said
    assert "but top-5 accuracy got worse, as the table shows." in said
    assert "forgotten" not in said


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        ({}, "4.40. With --mix general=0.1 a run forgets less, and learns nearly as much; a lower --learning_rate or"),
        ({"mixed": []}, "4.40. A larger share in --mix forgets less; a lower --learning_rate or fewer steps forget"),
        ({"streamed": True}, "4.40. A lower --learning_rate or fewer steps forget less, and learn less."),
        ({"prepared": {}}, "4.40. A lower --learning_rate or fewer steps forget less, and learn less."),
    ],
)
def test_what_forgets_less_is_what_the_run_can_do(corpus, says):
    values = with_change()
    values["corpus"] |= {"general": "plain", **corpus}
    values["change"]["general"] = {"text": "plain", "measures": {"loss": measure(2.0, 4.4, 2.2, 2.6, "worse")}}
    values["before"]["general"] = {"loss": 2.0, "masked_tokens": 90}
    values["after"]["general"] = {"loss": 4.4, "masked_tokens": 90}
    assert says in wording.note(values)
