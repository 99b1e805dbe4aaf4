from __future__ import annotations

import pytest
from example_metrics import Page, with_change

from mlm_recipes.report import model_card, report_page, wording
from mlm_recipes.report.unknown_words import qualification, unknown_text

FOUND = {"tokens": 1000, "unknown_tokens": 0, "characters": 0.0, "why": None, "script": None, "examples": []}


@pytest.mark.parametrize(
    ("unknown", "characters", "said", "qualified"),
    [
        (0, 0.0, False, ""),
        (8, 0.009, False, ""),
        (11, 0.0, True, ""),
        (1, 0.9, True, "Most of this text is unknown"),  # long words
        (300, 0.2, True, "Much of this text is unknown"),
        (982, 0.95, True, "Most of this text is unknown"),
    ],
)
def test_a_notable_share_is_said_and_a_large_one_first(unknown, characters, said, qualified):
    found = FOUND | {"unknown_tokens": unknown, "characters": characters, "why": "script", "script": "Cyrillic"}
    assert bool(unknown_text(found)) == said
    assert qualification(found).startswith(qualified)
    assert bool(qualification(found)) == bool(qualified)


@pytest.mark.parametrize(
    ("why", "helps"),
    [
        ("script", "Most of it is Korean: choose a model of that language, or start from random weights"),
        ("letters", "Choose a model of the text's language"),
        ("symbols", "emoji or other symbols. Choose a model whose vocabulary has them"),
        ("long words", "put spaces into them: DNA"),
        ("other", "Choose a model whose vocabulary contains them"),
    ],
)
def test_the_remedy_fits_the_cause(why, helps):
    found = FOUND | {"unknown_tokens": 500, "characters": 0.4, "why": why, "script": "Korean", "examples": ["a", "b"]}
    assert helps in unknown_text(found)
    assert "50.0% of the tokens, with 40.0% of the characters, such as a, b, are unknown" in unknown_text(found)


def test_characters_that_are_left_out_are_not_called_tokens():
    said = unknown_text(FOUND | {"characters": 0.4, "why": "other"})
    assert said.startswith("40.0% of the characters are not in the vocabulary, and are left out.")


def test_the_report_and_the_card_say_it_before_the_gain():
    values = with_change()
    assert "unknown" not in wording.note(values)
    values["corpus"]["unknown"] = FOUND | {"unknown_tokens": 982, "characters": 0.95, "why": "script", "script": "Thai"}
    first = "Most of this text is unknown to the model: the figures are about the rest only. The held-out loss fell by"
    assert wording.headline(values).startswith(first)
    page = Page(report_page.page(values)).text()
    for text in (page, " ".join(model_card.card(values).split()), wording.note(values)):
        assert first in text
        assert "98.2% of the tokens, with 95.0% of the characters" in text
        assert "Most of it is Thai: choose a model of that language" in text
    assert "982 tokens of 1,000, with 95.0% of the characters" in page
