from __future__ import annotations

import pytest

from mlm_recipes.report.probe_plot import learning_curve
from mlm_recipes.report.probes import about_the_texts, inspected, leakage, remarks, result, sentences

MEASURE = {"before": 0.712, "after": 0.758, "change": 0.046, "low": 0.029, "high": 0.062, "verdict": "better"}
NOTHING = MEASURE | {"low": -0.01, "high": 0.1, "verdict": "no measurable change"}
PROBE = {
    "name": "reviews",
    "texts": 300,
    "groups": 300,
    "labels": {"good": 160, "bad": 140},
    "majority": {"label": "good", "share": 0.533},
    "left_out": {"without_text": 0, "without_label": 0, "beyond_max": 0},
    "text_column": "text",
    "label_column": "label",
    "cut_off": 0,
    "leakage": {"exact": 0, "near": 0},
    "accuracy": MEASURE,
    "macro_f1": MEASURE,
    "beats_majority": [True, True],
    "smallest_change": 0.041,
    "learning_curve": [{"labels": 16, "draws": 4, **MEASURE}, {"labels": 240, "draws": 1, **MEASURE}],
}


def test_a_clear_result_is_one_sentence():
    assert list(sentences({"probes": [PROBE]})) == ["Classifying reviews: 71.2% -> 75.8%, +2.9 to +6.2 points."]
    assert list(sentences({})) == []


def test_an_interval_with_zero_in_it_is_no_measurable_change():
    (said,) = sentences({"probes": [PROBE | {"accuracy": NOTHING}]})
    assert said.startswith("Classifying reviews: no measurable change (71.2% -> 75.8%, -1.0 to +10.0 points).")
    assert "With 300 texts, a change of 4.1 points would be measured in four of five cases" in said


@pytest.mark.parametrize(
    ("beats", "says"),
    [
        ([False, False], "no better than always answering 'good', which is right for 53.3% of the texts. So it was"),
        ([True, False], "no better than always answering 'good'"),
        ([False, True], "Before training it was no better than always answering 'good'"),
    ],
)
def test_a_probe_that_its_most_common_label_explains_says_so(beats, says):
    assert says in " ".join(remarks(PROBE | {"beats_majority": beats}))


def test_texts_that_were_trained_on_are_said_and_left_out():
    probe = PROBE | {"leakage": {"exact": 3, "near": 1}, "not_leaked": NOTHING}
    said = " ".join(remarks(probe))
    assert "4 of its 300 texts are in the training text (3 equal a paragraph, 1 nearly stand in it)" in said
    assert "Without these: 71.2% -> 75.8%, -1.0 to +10.0 points." in said
    assert "is not known" in leakage(PROBE | {"leakage": {"exact": None, "near": None}})


def test_what_is_in_a_table_is_said_before_the_run():
    probe = PROBE | {
        "groups": 298, "cut_off": 1, "labels": {"good": 290, "bad": 6, "odd": 4},
        "left_out": {"without_text": 2, "without_label": 0, "beyond_max": 700},
    }  # fmt: skip
    said = " ".join(about_the_texts(probe, selected=300))
    assert "300 texts with 3 labels (columns text and label); 'good', the most common, has 53.3%" in said
    assert "300 other texts of the table select the best checkpoint" in said
    assert "Left out: 2 without a text, 700 beyond --max_probe_samples." in said
    assert "1 text longer than a row is cut off there." in said
    assert "1 label has fewer than 5 texts" in said
    assert "2 texts nearly equal another, and are kept in its fold" in said
    assert "None of its texts was found in the training text." in said


def test_the_power_is_said():
    many = inspected(PROBE | {"power": 0.83, "disagree": 0.1, "texts_needed": 1961})
    assert many.endswith("disagree on 10% of the texts: there are enough labels.")
    few = inspected(PROBE | {"power": 0.19, "disagree": 0.1, "texts_needed": 1961})
    assert "19% of runs" in few
    assert few.endswith("It takes 1,961 labelled texts to measure it in 80%.")


def test_the_curve_is_drawn_and_described():
    plot = learning_curve(PROBE, "probe-curve-1")
    assert plot.name == "probe-curve-1"
    assert plot.rows[0] == ("16", "4", "71.2%", "75.8%", "+4.6", "+2.9 to +6.2")
    assert "16: 71.2% to 75.8%; 240: 71.2% to 75.8%" in plot.description
    assert learning_curve(PROBE | {"learning_curve": PROBE["learning_curve"][:1]}) is None


def test_a_worse_result_is_said_as_such():
    worse = MEASURE | {"after": 0.68, "low": -0.05, "high": -0.01, "verdict": "worse"}
    assert result(PROBE | {"accuracy": worse}) == "Classifying reviews: 71.2% -> 68.0%, -5.0 to -1.0 points."
