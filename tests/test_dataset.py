from __future__ import annotations

from datasets import Dataset

from mlm_recipes import tokenize
from mlm_recipes.dataset import NumberedRows, with_example_id


def test_tokenize_cuts_marks_and_keeps_the_ids(corpus, tokenizer):
    rows = tokenize(corpus["validation"], tokenizer, max_length=32)
    assert sorted(rows.column_names) == ["cut_off", "example_id", "input_ids", "special_tokens_mask"]
    assert rows["example_id"] == corpus["validation"]["example_id"]
    assert sum(rows["cut_off"]) > 0
    for row, text in zip(rows, corpus["validation"]["text"], strict=True):
        assert row["input_ids"] == tokenizer(text, truncation=True, max_length=32)["input_ids"]
        assert len(row["input_ids"]) <= 32
        assert len(row["input_ids"]) + row["cut_off"] == len(tokenizer(text)["input_ids"])
        assert [i for i, special in enumerate(row["special_tokens_mask"]) if special] == [0, len(row["input_ids"]) - 1]


def test_other_columns_go_and_an_example_id_comes(tokenizer):
    rows = tokenize(Dataset.from_dict({"text": ["one", "two"], "label": [0, 1]}), tokenizer)
    assert sorted(rows.column_names) == ["cut_off", "example_id", "input_ids", "special_tokens_mask"]
    assert rows["example_id"] == [0, 1]


def test_with_example_id_keeps_one_that_is_there():
    rows = [{"input_ids": [1], "example_id": 7}]
    assert with_example_id(rows) is rows
    assert with_example_id(Dataset.from_dict({"input_ids": [[1]], "example_id": [7]}))["example_id"] == [7]
    assert with_example_id(Dataset.from_dict({"input_ids": [[1], [2]]}))["example_id"] == [0, 1]


def test_with_example_id_numbers_any_sequence():
    numbered = with_example_id([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    assert isinstance(numbered, NumberedRows)
    assert len(numbered) == 2
    assert numbered[1] == {"input_ids": [7], "example_id": 1}
    assert with_example_id([[5, 6], [7]])[0] == {"input_ids": [5, 6], "example_id": 0}
