from __future__ import annotations

import copy
import itertools

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from mlm_recipes import tokenize, train_tokenizer
from mlm_recipes.data.rows import NumberedRows, pack, with_example_id
from mlm_recipes.data.text_to_ids import Encoder


def test_tokenize_cuts_marks_and_keeps_the_ids(corpus, tokenizer):
    rows = tokenize(corpus["validation"], tokenizer, max_length=32, long_text="truncate")
    assert sorted(rows.column_names) == ["cut_off", "example_id", "input_ids", "special_tokens_mask"]
    assert rows["example_id"] == corpus["validation"]["example_id"]
    assert sum(rows["cut_off"]) > 0
    for row, text in zip(rows, corpus["validation"]["text"], strict=True):
        assert row["input_ids"] == tokenizer(text, truncation=True, max_length=32)["input_ids"]
        assert len(row["input_ids"]) <= 32
        assert len(row["input_ids"]) + row["cut_off"] == len(tokenizer(text)["input_ids"])
        assert [i for i, special in enumerate(row["special_tokens_mask"]) if special] == [0, len(row["input_ids"]) - 1]


def test_a_text_is_tokenized_once_and_a_changed_one_again(corpus, tokenizer, monkeypatch):
    calls = []
    whole = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, *given: calls.append(1) or whole(self, *given))
    rows = corpus["validation"].select(range(20))
    first = tokenize(rows, tokenizer, max_length=24)
    taken = len(calls)
    tokenizer("a text", truncation=True, max_length=5)  # settings that a caller left in it are not part of the key
    assert tokenize(rows, tokenizer, max_length=24)["input_ids"] == first["input_ids"]
    assert len(calls) == taken > 0
    others = [
        tokenize(rows, tokenizer, max_length=25),
        tokenize(rows, tokenizer, max_length=24, long_text="truncate"),
        tokenize(rows, tokenizer, max_length=24, stride=4),
        tokenize(rows, train_tokenizer(rows["text"], vocab_size=300), max_length=24),
        tokenize(corpus["validation"].select(range(20, 40)), tokenizer, max_length=24),
    ]
    found = [first, *others]
    assert len({str(each["input_ids"][:]) for each in found}) == len(found)


@given(
    texts=st.lists(st.text("abc de", max_size=60).filter(str.strip), min_size=1, max_size=8),
    max_length=st.integers(3, 40),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packing_loses_nothing_and_fills_every_row_except_the_last(tokenizer, texts, max_length):
    packed = pack(Dataset.from_dict({"text": texts}), tokenizer, max_length)
    stream = []
    for number, row in enumerate(packed):
        ids = row["input_ids"]
        assert (ids[0], ids[-1], row["example_id"], row["cut_off"]) == (101, 102, number, 0)
        assert len(ids) == max_length or (number == len(packed) - 1 and 2 < len(ids) < max_length)
        assert row["special_tokens_mask"] == [int(token in (101, 102)) for token in ids]
        stream += ids[1:-1]
    separated = [[*ids, 102] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    assert stream == list(itertools.chain.from_iterable(separated))[:-1]


def test_packing_drops_other_columns_and_renumbers(corpus, tokenizer):
    packed = pack(corpus["validation"], tokenizer, 64)
    assert sorted(packed.column_names) == ["cut_off", "example_id", "input_ids", "special_tokens_mask"]
    assert packed["example_id"] == list(range(len(packed)))


def test_packing_refuses_a_length_without_room(corpus, tokenizer):
    with pytest.raises(ValueError, match=r"max_length: received 2\. Accepted: 3 or more"):
        pack(corpus["validation"], tokenizer, 2)


def test_packing_refuses_a_tokenizer_with_unusual_special_tokens(corpus, tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.backend_tokenizer.post_processor = TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 102)])
    with pytest.raises(ValueError, match="adds 1 special tokens to a text"):
        pack(corpus["validation"], endless, 16)


def test_other_columns_are_replaced_by_an_example_id(tokenizer):
    rows = tokenize(Dataset.from_dict({"text": ["one", "two"], "label": [0, 1]}), tokenizer)
    assert sorted(rows.column_names) == ["cut_off", "example_id", "input_ids", "special_tokens_mask"]
    assert rows["example_id"] == [0, 1]


def test_with_example_id_keeps_an_existing_one():
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
