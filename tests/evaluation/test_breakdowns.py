from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from mlm_recipes.evaluation.breakdowns import Breakdown
from mlm_recipes.evaluation.token_results import TokenResults
from mlm_recipes.evaluation.word_pieces import WordPieces


@pytest.fixture
def text(tokenizer):
    """Twelve paragraphs of the same words, in two rows each; each token's count in training; the pieces."""
    ids = tokenizer("soul of the unphilosophical soul")["input_ids"]
    rows = Dataset.from_dict({"input_ids": [ids] * 24})
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    counts[tokenizer.convert_tokens_to_ids(["of", "the", "soul"])] = 2000, 99, 5
    return rows, np.repeat(np.arange(12), 2), counts, WordPieces(tokenizer)


def measured(rows, nats, draws=1):
    """Results with every token of each row masked in each draw; `nats` returns a token's loss by its position."""
    found = []
    for _ in range(draws):
        for index, row in enumerate(rows):
            for position, token in list(enumerate(row["input_ids"]))[1:-1]:
                found.append([index, position, token, nats(position), 0])
    return TokenResults.of([np.array(found, dtype=np.float64)])


def test_bands_contain_each_token_once_by_its_frequency(text, tokenizer):
    rows, paragraph, counts, _ = text
    before, after = measured(rows, lambda position: 4.0), measured(rows, lambda position: 4.0 - position)
    bands = Breakdown(before, after, paragraph).by_frequency(counts)
    assert [band["name"] for band in bands] == ["unseen", "1-9", "10-99", "1,000 and more"]
    assert [(band["from"], band["to"]) for band in bands] == [(0, 0), (1, 9), (10, 99), (1000, None)]
    pieces = len(rows[0]["input_ids"]) - 2 - 4  # the long word's pieces
    assert [band["masked_tokens"] for band in bands] == [24 * pieces, 48, 24, 24]
    assert all(band["paragraphs"] == 12 for band in bands)
    of = bands[3]["measures"]["loss"]
    assert (of["before"], of["after"], of["change"], of["verdict"]) == (4.0, 2.0, -2.0, "better")
    total = sum(band["masked_tokens"] * band["measures"]["loss"]["after"] for band in bands)
    assert total == pytest.approx(after.nats.sum())


def test_pieces_separate_first_and_later_pieces_of_words(text):
    rows, paragraph, _, pieces = text
    before, after = measured(rows, lambda position: 4.0), measured(rows, lambda position: 5.0 if position > 4 else 4.0)
    first, others = Breakdown(before, after, paragraph).by_piece(rows, pieces)
    assert (first["name"], others["name"]) == ("first", "continuation")
    assert first["masked_tokens"] == 24 * 5
    assert first["masked_tokens"] + others["masked_tokens"] == len(before)
    assert others["measures"]["loss"]["verdict"] == "worse"


def test_words_are_whole_and_counted_by_place_not_by_draw(text):
    rows, paragraph, _, pieces = text
    change = {1: -1.0, 2: 0.5, 3: 0.0}
    before = measured(rows, lambda position: 4.0, draws=3)
    after = measured(rows, lambda position: 4.0 + change.get(position, -0.2), draws=3)
    words = Breakdown(before, after, paragraph).by_word(rows, pieces)
    assert (words["at_least"], words["compared"]) == (5, 4)
    assert [entry["word"] for entry in words["gained"]] == ["soul", "unphilosophical"]
    assert [entry["word"] for entry in words["lost"]] == ["of"]  # unchanged words are in neither
    soul = words["gained"][0]
    assert (soul["places"], soul["masked_tokens"], soul["paragraphs"]) == (48, 144, 12)
    assert soul["change"] == pytest.approx((-1.0 - 0.2) / 2)
    assert words["lost"][0] | {"low": 0, "high": 0} == {
        "word": "of", "places": 24, "masked_tokens": 72, "paragraphs": 12,
        "before": 4.0, "after": 4.5, "change": 0.5, "low": 0, "high": 0, "verdict": "worse",
    }  # fmt: skip


def test_a_word_masked_at_only_four_places_is_not_listed(text):
    rows, _, _, pieces = text
    few = rows.select(range(4))  # they contain `soul` eight times, and five pieces of a word are one place
    before, after = measured(few, lambda position: 4.0, draws=5), measured(few, lambda position: 1.0, draws=5)
    words = Breakdown(before, after, np.arange(4)).by_word(few, pieces)
    assert [(entry["word"], entry["verdict"]) for entry in words["gained"]] == [("soul", "too few paragraphs")]


def test_results_of_different_tokens_are_not_compared(text):
    rows, paragraph, _, _ = text
    before = measured(rows, lambda position: 4.0)
    with pytest.raises(AssertionError, match="not the same masked tokens"):
        Breakdown(before, before.where(np.arange(len(before))[::-1]), paragraph)
