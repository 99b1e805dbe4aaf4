from __future__ import annotations

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from mlm_recipes.data.text_to_ids import Encoder, special_tokens

TEXTS = ["the man is good. the soul is good. is it one?", "the man", "", "all is one and the soul is good"]


def rows(tokenizer, texts=TEXTS, **options):
    return Encoder(tokenizer, **options)(texts, list(range(10, 10 + len(texts)))).to_pylist()


def test_rows_that_fit_equal_the_tokenizers_ids(tokenizer):
    for row, text in zip(rows(tokenizer, max_length=64), TEXTS, strict=True):
        found = tokenizer(text, return_special_tokens_mask=True)
        assert row["input_ids"] == found["input_ids"]
        assert row["special_tokens_mask"] == found["special_tokens_mask"]
        assert row["cut_off"] == 0
    assert [row["example_id"] for row in rows(tokenizer, max_length=64)] == [10, 11, 12, 13]


def test_truncation_equals_the_tokenizers(tokenizer):
    found = rows(tokenizer, max_length=8, long_text="truncate")
    for row, text in zip(found, TEXTS, strict=True):
        assert row["input_ids"] == tokenizer(text, truncation=True, max_length=8)["input_ids"]
    assert [row["cut_off"] for row in found] == [max(0, len(tokenizer(text)["input_ids"]) - 8) for text in TEXTS]


def test_a_tokenizer_that_truncates_on_the_left_is_respected(tokenizer):
    left = copy.deepcopy(tokenizer)
    left.truncation_side = "left"
    for row, text in zip(rows(left, max_length=8, long_text="truncate"), TEXTS, strict=True):
        assert row["input_ids"] == left(text, truncation=True, max_length=8)["input_ids"]


@given(st.lists(st.text("abc de.", max_size=60), max_size=4), st.integers(4, 20), st.integers(0, 2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_splitting_loses_nothing_and_each_token_can_be_masked_once(tokenizer, texts, max_length, stride):
    stride = min(stride, max_length - 3)
    found = rows(tokenizer, texts, max_length=max_length, stride=stride)
    assert all(len(row["input_ids"]) <= max_length for row in found)
    assert len({row["example_id"] for row in found}) == len(found)
    maskable = [
        token
        for row in found
        for token, special in zip(row["input_ids"], row["special_tokens_mask"], strict=True)
        if not special
    ]
    assert maskable == [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_with_a_stride_a_row_begins_with_the_end_of_the_previous_row(tokenizer):
    first, second, *_ = rows(tokenizer, TEXTS[:1], max_length=9, stride=2)
    assert second["input_ids"][1:3] == first["input_ids"][-3:-1]
    assert second["special_tokens_mask"][:4] == [1, 1, 1, 0]


def test_packing_joins_the_texts_end_to_end(tokenizer):
    encoder = Encoder(tokenizer, max_length=8)
    found = encoder.packed(TEXTS).to_pylist()
    joined = [token for row in found for token in row["input_ids"][1:-1]]
    whole = [token for text in TEXTS for token in [*tokenizer(text, add_special_tokens=False)["input_ids"], 102]][:-1]
    assert joined == whole
    assert all(row["special_tokens_mask"] == [int(t in (101, 102)) for t in row["input_ids"]] for row in found)


def test_special_tokens_of_other_kinds(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] [CLS] $A", special_tokens=[("[CLS]", 101)]
    )
    before, after = special_tokens(other)
    assert (before.tolist(), after.tolist()) == ([101, 101], [])
    (row,) = rows(other, ["the man is good"], max_length=4, long_text="truncate")
    assert row["input_ids"] == other("the man is good", truncation=True, max_length=4)["input_ids"]
    assert row["special_tokens_mask"] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_length": 2}, r"max_length: received 2\. Accepted: 3 or more"),
        ({"max_length": 8, "long_text": "drop"}, r"long_text: received 'drop'\. Accepted: split or truncate"),
        ({"max_length": 8, "stride": 6}, r"stride: received 6\. Accepted: 0 to 5"),
    ],
)
def test_values_out_of_range_are_refused(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        Encoder(tokenizer, **options)
