from __future__ import annotations

import copy
import itertools

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from mlm_recipes import tokenize, train_tokenizer
from mlm_recipes.data.rows import AllBut, NumberedRows, RowsOfEpoch, fingerprint, pack, with_example_id
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


def test_rows_of_an_epoch_contain_it():
    rows = [{"input_ids": [101, i, 102], "example_id": 10 + i} for i in range(4)]
    for source in (rows, Dataset.from_list(rows)):
        keyed = RowsOfEpoch(source)
        assert len(keyed) == 4
        assert keyed[4 * 7 + 2] == {"input_ids": [101, 2, 102], "example_id": 12, "epoch": 7}
        found = keyed.__getitems__([5, -1, 3])
        assert found == [rows[1] | {"epoch": 1}, None, rows[3] | {"epoch": 0}]
        assert keyed.__getitems__([-1]) == [None]


def test_other_collators_get_rows_without_our_columns():
    rows = [{"input_ids": [101, 7, 102], "special_tokens_mask": [1, 0, 1], "example_id": 5, "cut_off": 0}]
    expected = {"input_ids": [101, 7, 102], "special_tokens_mask": [1, 0, 1]}
    assert RowsOfEpoch(rows, plain=AllBut("cut_off", "example_id", "epoch"))[0] == expected
    assert RowsOfEpoch(rows, plain=["input_ids", "special_tokens_mask"])[0] == expected
    assert RowsOfEpoch([[101, 7, 102]], plain=[])[0] == [101, 7, 102]


@pytest.mark.parametrize("make", [list, Dataset.from_list, NumberedRows])
def test_the_fingerprint_depends_on_ids_lengths_and_order(make):
    rows = [{"input_ids": [101, i, 102], "example_id": i} for i in range(5)]
    same = fingerprint(make(rows))
    assert same == fingerprint(make([dict(row) for row in rows]))
    changed = [dict(row) for row in rows]
    changed[3]["input_ids"] = [101, 99, 102]
    joined = [dict(row) for row in rows]
    joined[0]["input_ids"], joined[1]["input_ids"] = [101, 0], [102, 101, 1, 102]
    marked = [row | {"special_tokens_mask": [1, 1, 1]} for row in rows]
    for other in (changed, joined, marked, rows[:4], rows[::-1]):
        assert fingerprint(make(other)) != same


def test_the_fingerprint_of_a_selection_is_that_of_its_rows():
    rows = Dataset.from_list([{"input_ids": [101, i, 102], "example_id": i} for i in range(5)])
    assert fingerprint(rows.select([2, 0])) == fingerprint(Dataset.from_list([rows[2], rows[0]]))


def test_a_costly_sequence_is_sampled():
    class Costly(list):
        reads = 0

        def __getitem__(self, index):
            Costly.reads += 1
            return super().__getitem__(index)

    rows = NumberedRows(Costly({"input_ids": [1]} for _ in range(5000)))
    view = type("View", (), {"__len__": lambda self: 5000, "__getitem__": lambda self, i: rows[i]})()
    fingerprint(view)
    assert Costly.reads <= 1000
