"""What scripts written for transformers' collator pass to ours, and what they do with the batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device
from transformers import BatchEncoding, DataCollatorForLanguageModeling

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.masking.one_buffer import OneBuffer


def test_the_call_of_transformers_4_means_what_it_meant(tokenizer, rows):
    collate = DataCollatorForMaskedLM(tokenizer, True, 0.3, 0.8, 0.1, 8, False, "pt", 5)
    assert (collate.mlm_probability, collate.mask_replace_prob, collate.random_replace_prob) == (0.3, 0.8, 0.1)
    assert (collate.pad_to_multiple_of, collate.seed) == (8, 5)
    share = (DataCollatorForMaskedLM(tokenizer, True, 0.15)([[110] * 10_000])["labels"] != -100).float().mean()
    assert 0.12 < share < 0.18
    assert collate(rows)["input_ids"].shape[1] % 8 == 0


def test_what_upstream_accepts_and_means_the_same_is_accepted(tokenizer, rows):
    values = {
        "mlm": True, "mlm_probability": 0.2, "mask_replace_prob": 0.8, "random_replace_prob": 0.1,
        "pad_to_multiple_of": 4, "return_tensors": "pt", "seed": np.int64(3), "whole_word_mask": False,
    }  # fmt: skip
    DataCollatorForLanguageModeling(tokenizer, **values)
    collate = DataCollatorForMaskedLM(tokenizer, tf_experimental_compile=False, **values)
    assert collate(rows, return_tensors=None)["input_ids"].shape == collate(rows, return_tensors="pt").input_ids.shape
    assert (collate.mlm, collate.return_tensors) == (True, "pt")  # read by other libraries


def test_whole_word_mask_is_a_masking_policy(tokenizer, rows):
    values = {"mask_replace_prob": 0.8, "random_replace_prob": 0.1, "mlm_probability": 0.5, "seed": 1}
    named, meant = (
        DataCollatorForMaskedLM(tokenizer, **values, **how)
        for how in ({"whole_word_mask": True}, {"masking_policy": "whole_word"})
    )
    assert named.masking_policy == "whole_word"
    assert named(rows)["input_ids"].tolist() == meant(rows)["input_ids"].tolist()


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((0.15,), {}, r"mlm: received 0\.15\. Accepted: True.*mlm_probability=0\.15"),
        ((False,), {}, r"mlm: received False.*mlm=False\)"),
        ((True, False, 0.15), {}, r"mlm_probability: received False.*in transformers 5 that is whole_word_mask"),
        ((True, True), {}, "mlm_probability: received True"),
        ((True, None), {}, "mlm_probability: received None"),
        ((True, "0.15"), {}, "mlm_probability: received '0.15'"),
        ((True, 0.15, 8), {}, "mask_replace_prob: received 8"),  # pad_to_multiple_of, before transformers 4.47
        ((True, 0.15, None), {}, "mask_replace_prob: received None"),
        ((), {"whole_word_mask": 1}, "whole_word_mask: received 1. Accepted: True or False"),
        ((), {"whole_word_mask": True, "masking_policy": "span"}, "whole_word_mask: received True with masking_policy"),
        ((), {"tf_experimental_compile": True}, "tf_experimental_compile: received True"),
        ((), {"return_tensors": "np"}, r"return_tensors: received 'np'.*\.numpy\(\)"),
        ((), {"seed": 1.5}, r"seed: received 1\.5"),
        ((), {"seed": True}, "seed: received True"),
        ((), {"pad_to_multiple_of": 0.5}, r"pad_to_multiple_of: received 0\.5"),
        ((), {"mlm_probability": float("nan")}, "mlm_probability: received nan"),
    ],
)
def test_what_means_something_else_is_refused_by_name(tokenizer, arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        DataCollatorForMaskedLM(tokenizer, *arguments, **keywords)


def test_none_as_tokenizer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"tokenizer: received None\. Accepted: a tokenizer"):
        DataCollatorForMaskedLM(None)


@pytest.mark.parametrize("padding_free", [False, True])
def test_a_batch_is_a_batch_encoding(tokenizer, rows, padding_free):
    batch = DataCollatorForMaskedLM(tokenizer, padding_free=padding_free, seed=1)(rows)
    assert isinstance(batch, BatchEncoding)
    assert batch.input_ids is batch["input_ids"]
    for moved in (copy.copy(batch).to("cpu"), send_to_device(batch, torch.device("cpu"), non_blocking=True)):
        assert isinstance(moved, BatchEncoding)
        assert moved.labels.tolist() == batch.labels.tolist()
    in_one = OneBuffer.of(batch).to("cpu")
    assert list(in_one) == list(batch)
    assert in_one["labels"].tolist() == batch.labels.tolist()


@pytest.mark.parametrize("joined", [False, True])
def test_other_columns_pass_through(tokenizer, joined):
    rows = [
        {"input_ids": [101, 110, 102], "score": 0.5, "bbox": [[1, 2], [3, 4], [5, 6]], "label": 1, "pair": [7, 8]},
        {"input_ids": [101, 102], "score": 2, "bbox": np.array([[7, 8], [9, 9]]), "label": 0, "pair": (9, 9)},
    ]
    batch = DataCollatorForMaskedLM(tokenizer, padding_free=joined)(rows)
    assert batch["score"].tolist() == [0.5, 2.0]
    assert batch["label"].tolist() == [1, 0]
    assert batch["pair"].tolist() == [[7, 8], [9, 9]]
    boxes = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 9]]
    assert batch["bbox"].tolist() == ([boxes] if joined else [boxes[:3], [*boxes[3:], [0, 0]]])
    assert "special_tokens_mask" not in batch


def test_the_columns_of_transformers_are_padded_as_there(tokenizer):
    rows = [tokenizer(text, return_special_tokens_mask=True, return_token_type_ids=True) for text in ("to be", "not")]
    values = {"mlm_probability": 1.0, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    expected = DataCollatorForLanguageModeling(tokenizer, **values)([BatchEncoding(dict(row)) for row in rows])
    found = DataCollatorForMaskedLM(tokenizer, **values)(rows)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in expected.items()
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([{"text": "to be"}, {"text": "not"}], r"text: received 'to be', which cannot become a tensor.*remove_columns"),
        ([{"x": None}, {"x": None}], "x: received None"),
        ([{"x": [1, 2]}, {"x": [1]}], r"x: received the shapes \(1,\), \(2,\)"),
        ([{"x": [[1], [1, 2]]}, {"x": [[1], [1, 2]]}], r"x: received \[\[1\], \[1, 2\]\], which cannot"),
        ([{"x": 1}, {}], "x: 1 of the batch's 2 rows have this column"),
        ([{"special_tokens_mask": [1]}, {}], r"special_tokens_mask: received an array of shape \(1,\) for a row of 3"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(tokenizer, columns, message):
    rows = [{"input_ids": [101, 110, 102]} | column for column in columns]
    with pytest.raises(ValueError, match=message):
        DataCollatorForMaskedLM(tokenizer)(rows)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (["to be", "or not"], "examples: received 'to be'.*Tokenize the text first"),
        ("to be", "examples: received 'to be'"),
        ([], r"examples: received \[\]"),
        ([{"text": "to be"}], "examples: received a row with the columns text"),
        ([{"input_ids": torch.ones(1, 4, dtype=torch.int64)}], r"input_ids: received an array of shape \(1, 4\)"),
        ([{"input_ids": [0.5, 1.5]}], "input_ids: .*type float64"),
        ({"input_ids": [[101, 7, 102], [101, 102]]}, "input_ids: received an array.*Tokenize each text by itself"),
    ],
)
def test_what_is_not_rows_is_refused_by_name(tokenizer, examples, message):
    with pytest.raises(ValueError, match=message):
        DataCollatorForMaskedLM(tokenizer)(examples)


def test_a_row_alone_is_a_batch_of_one(tokenizer):
    row = tokenizer("to be or not to be")
    alone, listed = (DataCollatorForMaskedLM(tokenizer, seed=1)(rows) for rows in (row, [row]))
    assert alone["labels"].tolist() == listed["labels"].tolist()
    assert alone["labels"].shape == (1, len(row["input_ids"]))


@pytest.mark.parametrize("joined", [False, True])
def test_rows_with_labels_of_their_own_stay_as_they_are(tokenizer, joined):
    rows = [
        {"input_ids": [101, 103, 111, 102], "labels": [-100, 110, -100, -100]},
        {"input_ids": [101, 112, 102], "labels": torch.tensor([-100, 112, -100])},
    ]
    batch = DataCollatorForMaskedLM(tokenizer, padding_free=joined, loss_on="all", static_masks=True)(rows)
    ids, labels = [[101, 103, 111, 102], [101, 112, 102]], [[-100, 110, -100, -100], [-100, 112, -100]]
    assert batch["input_ids"].tolist() == ([[*ids[0], *ids[1]]] if joined else [ids[0], [*ids[1], 0]])
    assert batch["labels"].tolist() == ([[*labels[0], *labels[1]]] if joined else [labels[0], [*labels[1], -100]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"input_ids": [5, 6], "labels": [5, -100]}, {"input_ids": [5, 6]}],
            "labels: received 1 rows with labels and",
        ),
        ([{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [5], "labels": None}], "1 without"),
        ([{"input_ids": [5, 6], "labels": 1}], r"labels: received an array of shape \(\) for a row of 2 tokens"),
        ([{"input_ids": [110] * 200, "labels": [110] * 200}], "labels are a copy of their ids.*remove_columns"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(tokenizer, rows, message):
    with pytest.raises(ValueError, match=message):
        DataCollatorForMaskedLM(tokenizer)(rows)


UPSTREAMS = [
    name
    for name in dir(DataCollatorForLanguageModeling)
    if callable(getattr(DataCollatorForLanguageModeling, name)) and not name.startswith("__")
    if name != "_calc_word_ids_and_prob_mask"  # a part of _whole_word_mask
]


@pytest.mark.parametrize("name", UPSTREAMS)
def test_a_method_that_only_upstream_calls_is_refused(tokenizer, name):
    kind = type("Mine", (DataCollatorForMaskedLM,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=f"^{name}: Mine has it, and it would never be called.*Override __call__"):
        kind(tokenizer)


class WithUnit(DataCollatorForMaskedLM):
    """A subclass with a constructor of its own."""

    def __init__(self, tokenizer, unit):
        super().__init__(tokenizer, mlm_probability=0.5, seed=3)
        self.unit = unit


def test_a_subclass_with_its_own_constructor_is_copied(tokenizer, rows):
    collate, plain = WithUnit(tokenizer, "words"), DataCollatorForMaskedLM(tokenizer, mlm_probability=0.5, seed=3)
    for each in (collate.frozen(0), collate.changed(padding_free=True), copy.deepcopy(collate)):
        assert (type(each), each.unit) == (WithUnit, "words")
    collate(rows)  # the copies' draws begin anew
    for mine, same in ((collate.changed(), plain), (collate.frozen(1), plain.frozen(1))):
        numbered = [{"input_ids": list(row["input_ids"]), "example_id": i} for i, row in enumerate(rows)]
        assert mine(numbered)["labels"].tolist() == same(numbered)["labels"].tolist()


def test_a_token_that_is_not_attended_to_is_not_masked_and_keeps_its_position(tokenizer):
    rows = [
        {"input_ids": [101, 110, 111, 112, 102], "attention_mask": [1, 1, 0, 1, 1]},
        {"input_ids": [0, 0, 101, 113, 102], "attention_mask": [0, 0, 1, 1, 1]},
        {"input_ids": [101, 114, 102, 0], "attention_mask": [1, 1, 1, 0]},
    ]
    collate = DataCollatorForMaskedLM(tokenizer, mlm_probability=1.0, position_ids_start=2)
    assert collate(rows)["labels"][0].tolist() == [-100, 110, -100, 112, -100]
    joined = collate.changed(padding_free=True)(rows)
    assert joined["labels"].tolist() == [[-100, 110, 112, -100, -100, 113, -100, -100, 114, -100]]
    assert joined["position_ids"].tolist() == [[2, 3, 5, 6, 2, 3, 4, 2, 3, 4]]
    assert joined["cu_seq_lens_q"].tolist() == [0, 4, 7, 10]
