from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from mlm_recipes import DataCollatorForMaskedLM

IDS = [101, 110, 111, 112, 113, 114, 115, 102]
WORDS = [-1, 0, 0, 0, 1, 1, 2, -1]


def groups(collate, rows, draws=60):
    """Return the sets of positions of the first row that were always masked together."""
    masks = np.stack([(collate(rows)["labels"][0] != -100).numpy()[: len(IDS)] for _ in range(draws)])
    return {tuple(np.flatnonzero((masks == masks[:, [place]]).all(0)).tolist()) for place in range(1, 7)}


@pytest.fixture
def collate(tokenizer):
    return DataCollatorForMaskedLM(tokenizer, masking_policy="whole_word", mlm_probability=0.5, seed=0)


@pytest.mark.parametrize("column", [WORDS, np.array(WORDS), [None, 0, 0, 0, 1, 1, 2, None]])
def test_the_words_of_a_row_override_the_tokenizers(collate, column, tokenizer):
    together = {(1, 2, 3), (4, 5), (6,)}
    assert groups(collate, [{"input_ids": IDS, "word_ids": column}]) == together
    assert groups(collate, [{"input_ids": IDS}]) != together
    mixed = [{"input_ids": IDS, "word_ids": column}, {"input_ids": IDS, "word_ids": None}, {"input_ids": IDS}]
    assert groups(collate, mixed) == together
    assert groups(collate, mixed[::-1]) == groups(collate, [{"input_ids": IDS}])


def test_tokens_in_no_word_are_words_of_their_own(collate):
    assert groups(collate, [{"input_ids": IDS, "word_ids": [-1, -1, -1, 0, 0, 1, 1, -1]}]) == {
        (1,),
        (2,),
        (3, 4),
        (5, 6),
    }


def test_the_words_are_not_passed_on(collate):
    for policy in ("whole_word", "token"):
        batch = collate.changed(masking_policy=policy)([{"input_ids": IDS, "word_ids": WORDS}])
        assert set(batch) == {"input_ids", "labels", "attention_mask"}


def test_a_column_of_a_dataset_is_read(collate):
    rows = Dataset.from_dict({"input_ids": [IDS, IDS], "word_ids": [WORDS, None]})
    assert groups(collate, [rows[0], rows[1]]) == {(1, 2, 3), (4, 5), (6,)}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([0, 1], r"word_ids: received an array of shape \(2,\) for a row of 8 tokens"),
        (["a"] * 8, "word_ids: received .*Accepted: one integer for each token"),
        ([0.5] * 8, "word_ids: received .*Accepted: one integer for each token"),
    ],
)
def test_what_are_no_words_is_refused(collate, column, message):
    with pytest.raises(ValueError, match=message):
        collate([{"input_ids": IDS, "word_ids": column}])
