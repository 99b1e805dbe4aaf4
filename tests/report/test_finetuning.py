from __future__ import annotations

import pytest
from example_metrics import measure

from mlm_recipes.report.finetuning import sentence, summary


def found(accuracy, **changes):
    seed = {"accuracy_before": 0.70, "accuracy_after": 0.75}
    values = {
        "on": {"name": "reviews", "measured": 400, "labels": {"bad": 100, "good": 300}},
        "against": "mini", "as_before": True, "settings": {"steps": 300},
        "seeds": [seed | {"seed": number} for number in range(5)],
        "accuracy": accuracy, "macro_f1": measure(0.6, 0.65, 0.01, 0.09),
    }  # fmt: skip
    return values | changes


def test_an_interval_with_zero_in_it_is_no_measurable_change():
    said = sentence(found(measure(0.85, 0.86, -0.02, 0.04, "no measurable change")))
    assert said.startswith(
        "No measurable change: fine-tuned on reviews, the model classifies 86.0% of 400 held-out texts"
    )
    assert "and 85.0% before it (mini): -2.0 to +4.0 points" in said


def test_another_model_is_not_called_before():
    said = sentence(found(measure(0.85, 0.9, 0.02, 0.08), against="runs/other", as_before=False))
    assert "90.0% of 400 held-out texts correctly after this training, and 85.0% with runs/other: +2.0 to +8.0" in said


@pytest.mark.parametrize(("best", "told"), [(0.75, True), (0.78, True), (0.85, False)])
def test_that_nothing_was_learned_is_told(best, told):
    """300 of 400 held-out texts have one label; 78% is 312, which chance can give."""
    said = sentence(found(measure(0.7, best, 0.02, 0.08)))
    assert ("Neither is measurably better than always answering 'good' (75.0%)" in said) is told


def test_the_table_has_each_seed_and_the_means():
    shown = summary(found(measure(0.85, 0.9, 0.02, 0.08))).splitlines()
    rows = {line.split("  ")[0]: line.split()[-4:] for line in shown if "%" in line and ":" not in line}
    assert shown.count(next(line for line in shown if line.startswith("seed"))) == 1
    assert [name for name in rows if name.isdigit()] == ["0", "1", "2", "3", "4"]
    assert rows["macro-F1, mean"] == ["+5.0", "+1.0", "to", "+9.0"]
