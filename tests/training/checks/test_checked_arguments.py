"""MLMTrainer checks objects as it checks names: before the first step, with one sentence."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer, load_tokenizer, tokenize
from mlm_recipes.data.streams import TextStream, blocks


def config(**changes):
    values = {"max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no", "seed": 1, "use_cpu": True}
    return MLMConfig(**(values | changes))


@pytest.fixture
def train(tiny_bert, tokenizer):
    def make_and_train(model=tiny_bert, processing_class=tokenizer, args=None, **arguments):
        args = config() if args is None else args
        return MLMTrainer(model, args=args, processing_class=processing_class, **arguments).train()

    return make_and_train


def test_a_model_or_a_tokenizer_of_another_kind_is_refused(train, tokenizer, rows):
    more, unnamed = copy.deepcopy(tokenizer), PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    more.add_tokens(["qqq"])
    for arguments, says in (
        ({"model": torch.nn.Linear(2, 2)}, "model: received Linear"),
        ({"model": BertModel(BertConfig(hidden_size=8, num_attention_heads=1))}, "model: BertModel returns"),
        ({"processing_class": tokenizer.backend_tokenizer}, r"processing_class: received tokenizers\.Tokenizer"),
        ({"processing_class": unnamed}, "processing_class: the tokenizer has no mask token"),
        ({"processing_class": more}, r"1000 token embeddings, and its tokenizer has ids up to 1000\. Accepted: 1001"),
    ):
        with pytest.raises(ValueError, match=says) as found:
            train(train_dataset=rows, **arguments)
        assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("wrap", [list, Dataset.from_list])
def test_a_text_that_is_none_is_named(train, tokenizer, wrap):
    found = wrap([{"text": "To be."}, {"text": "Or not."}, {"text": None}, {"text": "To be."}])
    with pytest.raises(ValueError, match="train_dataset: the text of row 2 is None"):
        train(train_dataset=found)
    with pytest.raises(ValueError, match="eval_dataset: the text of row 2 is None"):
        train(train_dataset=[{"text": "To be."}], eval_dataset=found)
    data = Dataset.from_list(list(found))
    with pytest.raises(ValueError, match="rows: the text of row 0 is None"):
        tokenize(data.select([2, 0]), tokenizer)
    assert len(tokenize(data.select([0, 3]), tokenizer)) == 2  # a selection without it


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["a", None], "the text of row 1 is None"),
        ([None, "a"], "the text of row 0 is None"),
        ([{"text": "a"}, {"text": 3.5}], "the text of row 1 is 3.5"),
        ([{"text": "a"}, {"title": "b"}], "the text of row 1 is None"),
        ([{"text": ["a", "b"]}], "the text of row 0 is list"),
        (Dataset.from_dict({"text": [[1, 2]]}), "the column `text` contains list"),
    ],
)
def test_a_text_of_another_kind_is_named(train, texts, says):
    with pytest.raises(ValueError, match=f"train_dataset: {says}"):
        train(train_dataset=texts)


def test_a_text_of_a_stream_that_is_none_is_named():
    stream = TextStream(lambda: ["a", "b", None])
    with pytest.raises(ValueError, match="train_dataset: the text of row 2 is None"):
        list(blocks(stream, lambda texts: [{"input_ids": [1]} for _ in texts], size=2, seed=0))
    with pytest.raises(ValueError, match="train_dataset: the text of row 2 is None"):
        stream.first()


LONG, FAR, NEGATIVE = [101] * 129, [101, 1000, 102], [101, -1, 102]


@pytest.mark.parametrize("wrap", [list, Dataset.from_list])
@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (LONG, "row 3 has 129 tokens. Accepted: at most 128, the model's positions"),
        (FAR, "row 3 has the id 1000. Accepted: 0 to 999"),
        (NEGATIVE, "row 3 has the id -1"),
    ],
)
def test_ids_that_the_model_cannot_read_are_named(train, rows, wrap, ids, says):
    wrong = wrap([*rows[:3], {"input_ids": ids}, *rows[3:]])
    with pytest.raises(ValueError, match=f"train_dataset: {says}"):
        train(train_dataset=wrong)
    with pytest.raises(ValueError, match=f"eval_dataset: {says}"):
        train(train_dataset=rows, eval_dataset=wrong)
    with pytest.raises(ValueError, match=f"eval_dataset\\['b'\\]: {says}"):
        train(train_dataset=rows, eval_dataset={"a": rows, "b": wrong})


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (None, "are None"),
        ([101.5, 7.0], "contain 101.5"),
        (["a", "b"], "contain 'a'"),
        (torch.tensor([[101, 7, 102]]), r"have the shape \(1, 3\)"),
        ([[101], [7, 102]], r"have the shape"),
    ],
)
def test_ids_of_another_kind_are_named(train, rows, ids, says):
    with pytest.raises(ValueError, match=f"train_dataset: the ids of row 2 {says}"):
        train(train_dataset=[*rows[:2], {"input_ids": ids}, *rows[2:]])


@pytest.mark.parametrize("ids", [None, [1.5]])
def test_a_column_of_another_kind_is_named(train, ids):
    data = Dataset.from_dict({"input_ids": [[1.0] if ids else [1], ids]})
    with pytest.raises(ValueError, match=r"train_dataset: the ids of row \d "):
        train(train_dataset=data)


class Slow:
    """Rows that are made when they are asked for; only every third is looked at before training."""

    def __init__(self, wrong):
        self.wrong, self.read = wrong, 0

    def __len__(self):
        return 2500

    def __getitem__(self, index):
        self.read += 1
        return {"input_ids": FAR if index == self.wrong else [101, 500, 102]}


def test_rows_that_are_slow_to_get_are_checked_when_they_are_read(train):
    args = config(train_sampling_strategy="sequential", max_steps=2)
    with pytest.raises(ValueError, match="train_dataset: row 5 has the id 1000"):
        train(train_dataset=Slow(5), args=args)
    untouched = Slow(None)
    train(train_dataset=untouched, args=args)
    assert untouched.read < 1000


def test_a_data_set_is_read_once_more_at_most(train, rows, monkeypatch):
    """The check takes part in what is read anyway, for the resume contract."""
    from mlm_recipes.data import all_ids

    whole = all_ids._in_columns
    calls = []
    monkeypatch.setattr(all_ids, "_in_columns", lambda *given, **more: calls.append(1) or whole(*given, **more))
    train(train_dataset=Dataset.from_list(rows))
    assert len(calls) == 1


def test_arrays_of_small_integers_are_read(train, rows):
    for kind in (np.int16, np.uint16, np.int32):
        train(train_dataset=[np.array(row["input_ids"], dtype=kind) for row in rows])


def test_the_collator_of_another_vocabulary_is_checked_too(train, rows):
    with pytest.raises(ValueError, match="1000 token embeddings, and its tokenizer has ids up to 8191"):
        train(train_dataset=rows, data_collator=DataCollatorForMaskedLM(load_tokenizer("mini")))
