"""What a user of Trainer passes as data: labels of their own, columns of all kinds, streams."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import make_bert, make_model
from datasets import Dataset, DatasetDict
from datasets.distributed import split_dataset_by_node
from same_run import loss_bound
from small_run import NUMBERED, make_trainer, weights
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    LayoutLMConfig,
    LayoutLMForMaskedLM,
    default_data_collator,
    set_seed,
)

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.inputs import from_iterable

IDS = [[101, 110 + i, 103, 112, 113, 102][: 6 - i % 2] for i in range(8)]
LABELS = [[-100, -100, 300 + i, -100, 113, -100][: 6 - i % 2] for i in range(8)]
LABELLED = [{"input_ids": ids, "labels": labels} for ids, labels in zip(IDS, LABELS, strict=True)]


def make(tokenizer, rows, model=None, **given):
    args = MLMConfig(
        output_dir="out", max_steps=given.pop("max_steps", 2), per_device_train_batch_size=2, save_strategy="no",
        per_device_eval_batch_size=3, use_cpu=True, disable_tqdm=True, learning_rate=1e-3, **given.pop("values", {}),
    )  # fmt: skip
    given = {"train_dataset": rows, "eval_dataset": rows, "processing_class": tokenizer} | given
    return MLMTrainer(model or make_bert(tokenizer), args, **given)


def labels_of(loader):
    """The labels that are not -100, of all batches."""
    found = [batch["labels"].flatten() for batch in loader]
    return sorted(itertools.chain.from_iterable(each[each != -100].tolist() for each in found))


OWN = sorted(label for labels in LABELS for label in labels if label != -100)


@pytest.mark.parametrize("form", [list, Dataset.from_list])
@pytest.mark.parametrize("padding_free", [False, True])
def test_rows_with_labels_are_trained_and_evaluated_on_those(tokenizer, form, padding_free, caplog):
    trainer = make(tokenizer, form(LABELLED), values={"padding_free": padding_free})
    assert labels_of(trainer.get_train_dataloader()) == OWN
    assert labels_of(trainer.get_eval_dataloader()) == OWN
    assert "eval_dataset brings labels of its own" in caplog.text
    found = trainer.evaluate()
    sums = torch.zeros(3)
    with torch.no_grad():
        for row in LABELLED:
            logits = trainer.model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            targets = torch.tensor(row["labels"])
            where = targets != -100
            nats = torch.nn.functional.cross_entropy(logits[where], targets[where], reduction="sum")
            sums += torch.stack([nats, (logits.argmax(-1) == targets)[where].sum(), where.sum()])
    assert found["eval_masked_tokens"] == sums[2]
    assert found["eval_loss"] == pytest.approx(float(sums[0] / sums[2]), rel=loss_bound(trainer.model))
    assert found["eval_accuracy"] == pytest.approx(float(sums[1] / sums[2]))
    trainer.train()


@pytest.mark.parametrize(
    "collator",
    [
        lambda tokenizer: default_data_collator,
        DataCollatorForTokenClassification,
        DataCollatorForLanguageModeling,
    ],
)
def test_rows_with_labels_keep_them_with_the_callers_collator(tokenizer, collator, caplog):
    rows = [{name: value[:5] for name, value in row.items()} for row in LABELLED]
    trainer = make(tokenizer, Dataset.from_list(rows), data_collator=collator(tokenizer))
    expected = sorted(label for row in rows for label in row["labels"] if label != -100)
    assert labels_of(trainer.get_train_dataloader()) == labels_of(trainer.get_eval_dataloader()) == expected
    replaced = collator is DataCollatorForLanguageModeling
    assert ("DataCollatorForLanguageModeling would mask rows again" in caplog.text) == replaced
    trainer.train()


def test_labels_of_one_data_set_do_not_concern_another(tokenizer):
    plain = [{"input_ids": row["input_ids"]} for row in NUMBERED]
    trainer = make(tokenizer, plain, eval_dataset={"own": LABELLED, "ours": plain})
    assert labels_of(trainer.get_eval_dataloader("own")) == OWN
    assert labels_of(trainer.get_eval_dataloader("ours")) != OWN
    assert trainer.evaluate(LABELLED)["eval_masked_tokens"] == len(OWN)


@pytest.mark.parametrize(
    "rows",
    [
        [*LABELLED, {"input_ids": [101, 103, 102]}],
        Dataset.from_list([*LABELLED, {"input_ids": [101, 103, 102], "labels": None}]),
    ],
)
@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_a_mix_is_refused(tokenizer, rows, name):
    with pytest.raises(ValueError, match=f"{name}: 1 of its 9 rows have no labels, the others do"):
        make(tokenizer, LABELLED, **{name: rows})


def test_a_run_is_not_resumed_with_other_labels(tokenizer):
    def trainer(rows):
        return make_trainer(tokenizer, rows, "out", padding_free=False)

    trainer(LABELLED).train()
    again = trainer(LABELLED)
    again.train(resume_from_checkpoint="out/checkpoint-4")
    others = [row | {"labels": [-100, 300, *row["labels"][2:]]} for row in LABELLED]
    with pytest.raises(ValueError, match="training labels was"):
        trainer(others).train(resume_from_checkpoint="out/checkpoint-4")


@pytest.mark.parametrize("kind", ["ours", "upstream's"])
def test_columns_that_the_model_does_not_take_are_left_out(tokenizer, kind):
    """Trainer leaves them out too (remove_unused_columns)."""
    rows = [{"input_ids": ids, "text": "to be", "label": 1, "length": len(ids), "token_type_ids": [0] * len(ids)}
            for ids in IDS]  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer) if kind == "upstream's" else None
    trainer = make(tokenizer, Dataset.from_list(rows), make_model("distilbert", tokenizer), data_collator=collator)
    (batch, *_) = trainer.get_train_dataloader()
    assert not {"text", "label", "length", "token_type_ids"} & set(batch) - {"label", "labels"}
    trainer.evaluate()
    if kind == "ours":
        trainer.train()


def test_a_collator_of_the_callers_gets_every_column(tokenizer):
    seen = set()

    def collate(rows):
        seen.update(*rows)
        return default_data_collator([{"input_ids": row["input_ids"][:4], "labels": row["mine"]} for row in rows])

    make(tokenizer, [{"input_ids": ids, "mine": ids[:4]} for ids in IDS], data_collator=collate).train()
    assert seen == {"input_ids", "mine"}


def test_columns_that_the_model_takes_reach_it(tokenizer, caplog):
    set_seed(0)
    model = LayoutLMForMaskedLM(
        LayoutLMConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=64, max_2d_position_embeddings=64,
        )
    )  # fmt: skip
    rows = [{"input_ids": ids, "bbox": [[i, i, i + 1, i + 1] for i in range(len(ids))]} for ids in IDS]
    trainer = make(tokenizer, rows, model)
    with_boxes = trainer.evaluate()["eval_loss"]
    assert "padding_free is off: the rows have bbox too" in caplog.text
    without = trainer.evaluate([{"input_ids": row["input_ids"]} for row in rows])["eval_loss"]
    assert with_boxes != without
    trainer.train()


TEXTS = [f"to be or not to be that is the question number {i}" for i in range(20)]


class Items(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


TEXT = [
    pytest.param(lambda: Dataset.from_dict({"text": TEXTS, "n": list(range(20))}).to_iterable_dataset(), id="datasets"),
    pytest.param(lambda: Items([{"text": text} for text in TEXTS]), id="torch, rows"),
    pytest.param(lambda: Items(TEXTS), id="torch, strings"),
]
ROWS = [
    pytest.param(lambda: Dataset.from_dict({"input_ids": IDS}).to_iterable_dataset(num_shards=2), id="datasets"),
    pytest.param(
        lambda: Dataset.from_dict({"input_ids": IDS, "text": ["x"] * 8}).with_format("torch").to_iterable_dataset(),
        id="datasets, tensors, with a column more",
    ),
    pytest.param(lambda: Items([{"input_ids": ids} for ids in IDS]), id="torch, rows"),
    pytest.param(lambda: Items([torch.tensor(ids) for ids in IDS]), id="torch, tensors"),
    pytest.param(lambda: Items(IDS), id="torch, lists"),
]


def masked_rows(trainer, steps=8):
    """The rows of some steps, with their masks undone."""
    found = []
    for batch in itertools.islice(trainer.get_train_dataloader(), steps):
        ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
        found += [row[mask.bool()].tolist() for row, mask in zip(ids, batch["attention_mask"], strict=True)]
    return found


@pytest.mark.parametrize("stream", TEXT)
def test_a_stream_of_text_is_trained_on(tokenizer, stream):
    trainer = make(tokenizer, stream(), eval_dataset=TEXTS[:3], max_steps=10, values={"padding_free": False})
    assert trainer.args.streaming
    assert sorted(masked_rows(trainer, 10)) == sorted(tokenizer(TEXTS)["input_ids"])
    trainer.train()
    assert trainer.state.global_step == 10


@pytest.mark.parametrize("stream", ROWS)
def test_a_stream_of_rows_is_trained_on(tokenizer, stream):
    trainer = make(tokenizer, stream(), eval_dataset=IDS, max_steps=4, values={"padding_free": False})
    assert sorted(masked_rows(trainer, 4)) == sorted(IDS)
    trainer.train()


@pytest.mark.parametrize("collator", [None, DataCollatorForLanguageModeling])
def test_labelled_rows_of_a_stream_keep_their_labels(tokenizer, collator):
    given = {"eval_dataset": None, "max_steps": 4, "data_collator": collator and collator(tokenizer)}
    trainer = make(tokenizer, Items(LABELLED), **given)
    assert labels_of(trainer.get_train_dataloader()) == OWN


@pytest.mark.parametrize("rows", [TEXT[0].values[0], ROWS[0].values[0]], ids=["text", "rows"])
def test_a_stream_is_resumed_exactly(tokenizer, rows):
    def trainer(max_steps=7):
        args = MLMConfig(
            output_dir="out", max_steps=max_steps, per_device_train_batch_size=2, save_steps=5, use_cpu=True,
            disable_tqdm=True, learning_rate=1e-3, stream_buffer=3,
        )  # fmt: skip
        shuffled = rows().shuffle(seed=3, buffer_size=4)
        return MLMTrainer(make_bert(tokenizer), args, train_dataset=shuffled, processing_class=tokenizer)

    whole, again = trainer(), trainer()
    whole.train()
    again.train(resume_from_checkpoint="out/checkpoint-5")
    assert torch.equal(weights(again), weights(whole))


def test_the_config_of_the_caller_stays_as_it_is(tokenizer):
    args = MLMConfig(max_steps=2, use_cpu=True, dataloader_num_workers=0)
    stream, changed = from_iterable(Items(TEXTS), args)
    assert (args.streaming, changed.streaming) == (False, True)
    assert stream.first(2) == TEXTS[:2]


@pytest.mark.parametrize(
    ("stream", "values", "message"),
    [
        (lambda: Items(TEXTS), {"max_steps": -1}, "max_steps: received -1 with streaming"),
        (lambda: Items([]), {}, "train_dataset: received no rows"),
        (lambda: Items([{"content": "to be"}]), {}, "train_dataset: received the columns content.*rename_column"),
        (
            lambda: iter(TEXTS),
            {},
            r"train_dataset: received list_iterator.*IterableDataset, or TextStream\(read\)",
        ),
        (
            lambda: split_dataset_by_node(Dataset.from_dict({"text": TEXTS}).to_iterable_dataset(), 0, 2),
            {},
            "train_dataset: received the part of a data set",
        ),
    ],
)
def test_streams_that_cannot_be_trained_on_are_refused(tokenizer, stream, values, message):
    with pytest.raises(ValueError, match=message):
        make(tokenizer, stream(), eval_dataset=None, **values)


def test_a_stream_to_evaluate_on_is_refused_with_what_to_do(tokenizer):
    with pytest.raises(ValueError, match=r"eval_dataset: received IterableDataset.*list\(eval_dataset.take\(2000\)\)"):
        make(tokenizer, IDS, eval_dataset=TEXT[0].values[0]())
    taken = list(TEXT[0].values[0]().take(3))
    assert make(tokenizer, IDS, eval_dataset=taken).evaluate()["eval_masked_tokens"] > 0


def test_rows_are_numpys_too(tokenizer):
    rows = [{name: np.array(value, dtype=np.int32) for name, value in row.items()} for row in LABELLED]
    assert labels_of(make(tokenizer, rows).get_train_dataloader()) == OWN


@pytest.mark.parametrize("kind", [dict, DatasetDict])
def test_several_data_sets_to_train_on_are_refused_with_what_to_pass(tokenizer, kind):
    rows = Dataset.from_list(NUMBERED)
    with pytest.raises(ValueError, match=rf"train_dataset: received {kind.__name__} with train, test.*\['train'\]"):
        make(tokenizer, kind(train=rows, test=rows), eval_dataset=None)


def cropped(batch):
    return {"input_ids": [ids[:4] for ids in batch["input_ids"]]}


TRANSFORMED = {
    "ids": lambda tokenizer: Dataset.from_list(NUMBERED).with_transform(cropped),
    "text to ids": lambda tokenizer: Dataset.from_dict({"text": ["to be or not to be"] * 8}).with_transform(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=4)
    ),
    "text to text": lambda tokenizer: Dataset.from_dict({"written": ["to be or not to be"] * 8}).with_transform(
        lambda batch: {"text": [text[:5] for text in batch["written"]]}
    ),
}


@pytest.mark.parametrize("make_rows", TRANSFORMED.values(), ids=TRANSFORMED)
def test_rows_are_what_a_transform_returns(tokenizer, make_rows):
    trainer = make(tokenizer, make_rows(tokenizer))
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        assert {length for batch in loader for length in batch["cu_seq_lens_q"].diff().tolist()} == {4}
    trainer.train()


def test_rows_of_a_data_set_in_arrows_format(tokenizer):
    rows = Dataset.from_list(NUMBERED)
    arrow, plain = (make(tokenizer, each) for each in (rows.with_format("arrow"), rows))
    assert arrow.train().training_loss == plain.train().training_loss


def test_columns_of_the_rows_to_evaluate_alone_reach_the_model_too(tokenizer):
    """Joined, the rows' own positions would be replaced."""
    rows = [row | {"position_ids": list(range(2, 2 + len(row["input_ids"])))} for row in NUMBERED]
    trainer = make(tokenizer, NUMBERED, eval_dataset={"moved": rows, "plain": NUMBERED})
    assert not trainer.padding_free
    found = trainer.evaluate()
    assert found["eval_moved_loss"] != found["eval_plain_loss"]
