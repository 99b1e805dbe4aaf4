from __future__ import annotations

import pytest

from mlm_recipes.data.label_column import choose_label_column
from mlm_recipes.data.text_column import Evidence


def evidence(**columns):
    return Evidence.of([{name: make(n) for name, make in columns.items()} for n in range(40)])


def text(n):
    return f"text number {n} of many"


def few(n):
    return "ab"[n % 2]


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"text": text, "label": lambda n: n % 3}, "label"),
        ({"text": text, "Label": few, "source": few}, "Label"),
        ({"text": text, "category": few, "source": few}, "category"),
        ({"text": text, "tone": few, "n": lambda n: n}, "tone"),
    ],
)
def test_the_column_that_is_meant_is_chosen(columns, chosen):
    assert choose_label_column(evidence(**columns), None, None, "a.csv") == chosen


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": text, "class": few, "category": few}, "may be in 'class' or 'category'"),
        ({"text": text, "tone": few, "source": few}, "may be in 'tone' or 'source'"),
        ({"text": text, "n": lambda n: n}, "not in a column of a usual name"),
    ],
)
def test_what_is_not_clear_is_asked(columns, says):
    with pytest.raises(ValueError, match=rf"^label_column: the labels of 'a.csv' .*{says}.*Accepted: .*text"):
        choose_label_column(evidence(**columns), None, None, "a.csv")


def test_the_column_of_texts_is_not_that_of_labels():
    assert choose_label_column(evidence(category=few, tone=few), None, "category", "a.csv") == "tone"
