"""Training on rows that other texts are mixed into: the same steps however they are split, resumed, or counted."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import make_bert
from datasets import Dataset
from small_run import At, make_trainer, weights

from mlm_recipes import MLMConfig, MLMTrainer, mix_rows
from mlm_recipes.data.mixed_rows import IDS_OF_A_TEXT
from mlm_recipes.training.batches.mixed_order import mixed_in

OWN, STEPS = 11, 12  # with 4 and 2 mixed rows an epoch has 17: steps of 4, 4, 4, 4, 1


def rows_of(number, seed, longest=14):
    random = np.random.default_rng(seed)
    lengths = random.integers(4, longest, number)
    return Dataset.from_dict({"input_ids": [[101, *random.integers(104, 900, n - 2).tolist(), 102] for n in lengths]})


def mixture(other=1):
    """`a` is read more than once an epoch; of `b`, an epoch has a part."""
    of_a = rows_of(3, 1)
    if other != 1:
        of_a = of_a.map(lambda row: {"input_ids": [101, *[other] * (len(row["input_ids"]) - 2), 102]})
    mixed = mix_rows(rows_of(OWN, 0), {"a": (of_a, 0.25), "b": (rows_of(9, 2), 0.12)})
    assert [part.rows_per_epoch for part in mixed.parts] == [4, 2]
    return mixed


def trainer_of(tokenizer, folder="run", rows=None, dropout=0.1, **changes):
    values = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 1e-3,
        "seed": 1, "save_steps": 1, "mlm_probability": 0.4, "use_cpu": True, "disable_tqdm": True,
    } | changes  # fmt: skip
    model = make_bert(tokenizer, hidden_dropout_prob=dropout)
    rows = mixture() if rows is None else rows
    return MLMTrainer(model, args=MLMConfig(**values), train_dataset=rows, processing_class=tokenizer)


def batches(trainer, epochs=3):
    """Each step's rows and masks, as a sorted list, by the trainer's own loader."""
    found, accumulation = [], trainer.args.gradient_accumulation_steps
    for epoch in range(epochs):
        loader = trainer.get_train_dataloader()
        loader.set_epoch(epoch)
        rows = [[(tuple(ids.tolist()), tuple(labels.tolist())) for ids, labels in unpadded(batch)] for batch in loader]
        found += [sorted(chain(*rows[i : i + accumulation])) for i in range(0, len(rows), accumulation)]
    return found


def unpadded(batch):
    kept = batch["attention_mask"].bool()
    return [
        (ids[here], labels[here]) for ids, labels, here in zip(batch["input_ids"], batch["labels"], kept, strict=True)
    ]


PADDED = {"padding_free": False, "sparse_prediction": False}


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_a_step_has_the_same_rows_and_masks_however_it_is_split(tokenizer, strategy):
    layouts = [(4, 1, 0), (2, 2, 0), (1, 4, 0)] + [(4, 1, 2)] * (strategy == "random")
    found = [
        batches(
            trainer_of(
                tokenizer, train_sampling_strategy=strategy, per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation, dataloader_num_workers=workers, **PADDED,
            ),
            epochs=3 if workers == 0 else 1,
        )
        for size, accumulation, workers in layouts
    ]  # fmt: skip
    for other in found[1:]:
        assert other == found[0][: len(other)]
    assert [len(step) for step in found[0]] == [4, 4, 4, 4, 1] * 3
    different = {row for step in found[0] for row in step}
    assert len(different) > 40, "rows are masked in the same way twice"  # of 51, for rows of two tokens are there too


def test_a_step_of_so_many_tokens_has_the_same_rows_and_masks_however_it_is_split(tokenizer):
    """The epochs have other rows, with other tokens, and the same number of steps."""
    one, other = (
        batches(trainer_of(tokenizer, tokens_per_batch=60, gradient_accumulation_steps=accumulation, **PADDED))
        for accumulation in (1, 3)
    )
    assert one == other
    tokens = [sum(len(ids) for ids, _ in step) for step in one]
    epochs = np.array(tokens).reshape(3, -1).sum(1)
    assert len(set(epochs)) > 1
    assert epochs[0] / 60 <= len(one) / 3 < epochs[0] / 60 + 1


def test_rows_of_similar_length_are_grouped_in_each_epoch(tokenizer):
    rows = mix_rows(rows_of(40, 0, 60), {"a": (rows_of(60, 1, 60), 0.4)})
    trainer = trainer_of(tokenizer, rows=rows, train_sampling_strategy="group_by_length")
    trainer.get_train_dataloader()
    sampler, order = trainer._step_seeds.sampler, rows.order(1, shuffled=True)
    lengths = np.array([len(ids) for ids in rows.rows["input_ids"]])
    for epoch in range(3):
        sampler.set_epoch(epoch)
        found = lengths[order.rows(epoch)[np.array(list(sampler)) % len(rows)]]
        steps = [found[i : i + 4] for i in range(4, len(found) - 4, 4)]
        assert np.mean([step.max() - step.min() for step in steps]) < 12, "the lengths are not those of this epoch"


@pytest.mark.parametrize(
    ("steps", "workers"),
    # Within an epoch, and at the end of the first one.
    [
        ((7,), 0),
        pytest.param((1, 2, 5, 10), 0, marks=pytest.mark.slow),
        pytest.param((3, 5), 2, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tokenizer, tmp_path, steps, workers):
    whole = trainer_of(tokenizer, tmp_path / "run", save_steps=7 if steps == (7,) else 1)
    whole.train()
    for step in steps:
        again = trainer_of(tokenizer, tmp_path / "again", dataloader_num_workers=workers, save_strategy="no")
        again.train(resume_from_checkpoint=tmp_path / f"run/checkpoint-{step}")
        assert torch.equal(weights(again), weights(whole)), step


@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_the_share_holds_in_each_step_on_average(strategy):
    """The mean share of a step's tokens is that of the epoch, to four and a half standard errors."""
    rows = mix_rows(rows_of(300, 0), {"a": (rows_of(37, 1), 0.2)})
    trainer = MLMTrainer.__new__(MLMTrainer)
    trainer.args = MLMConfig(per_device_train_batch_size=16, train_sampling_strategy=strategy, use_cpu=True, seed=5)
    trainer._train_batch_size, trainer.get_total_train_batch_size = 16, lambda args: 16
    trainer.data_collator = None
    sampler, order, shares = trainer.epoch_sampler(rows, 1), rows.order(5, strategy == "random"), []
    lengths = np.array([len(ids) for ids in rows.rows["input_ids"]])
    for epoch in range(100):
        sampler.set_epoch(epoch)
        found = order.rows(epoch)[np.array(list(sampler)) % len(rows)]
        steps = found[: len(found) // 16 * 16].reshape(-1, 16)
        tokens = lengths[steps]
        shares.append((tokens * (steps >= rows.own)).sum(1) / tokens.sum(1))
    shares = np.array(shares)  # (epochs, steps)
    if strategy == "random":
        assert np.abs(shares.mean(0) - 0.2).max() <= 4.5 * shares.std() / 10
    else:  # the rows of a step are the same in each epoch, but for whose turn it is
        assert shares.mean(0).std() < 0.05
        assert shares.std(0).max() < 0.05
    assert abs(shares.mean() - rows.share(rows.parts[0])) <= 4.5 * shares.std() / shares.size**0.5


def test_what_was_read_is_counted_as_the_batches_had_it(tokenizer, tmp_path):
    rows = mixture()
    trainer, seen = trainer_of(tokenizer, tmp_path, rows=rows, save_strategy="no"), []
    step_of = trainer.training_step

    def training_step(model, inputs, *more):
        seen.extend(ids.tolist() for ids in inputs["input_ids"])
        return step_of(model, inputs, *more)

    trainer.training_step = training_step
    trainer.train()
    read = mixed_in(rows, trainer.epoch_sampler(rows, 1), trainer.args, STEPS)
    seen = Counter(token for row in seen for token in row)
    assert [text["name"] for text in read] == ["a", "b"]
    assert sum(seen.values()) == int(trainer.token_counter.counts()[0])
    total = sum(seen.values())
    for text, part in zip(read, rows.parts, strict=True):
        assert text["times_read"] == pytest.approx(text["rows"] / part.rows)
        assert text["share"] == pytest.approx(text["tokens"] / total)
    # 12 steps are two epochs of five steps, and 8 rows of the third.
    assert 8 <= read[0]["rows"] <= 12
    assert 4 <= read[1]["rows"] <= 6
    exact = Counter()
    every = [tuple(ids) for ids in rows.rows["input_ids"]]
    for step in batches(trainer_of(tokenizer, rows=rows, **PADDED, mask_replace_prob=0.0))[:STEPS]:
        exact.update(every.index(ids) for ids, _ in step)
    for text, part in zip(read, rows.parts, strict=True):
        here = {row: times for row, times in exact.items() if part.first <= row < part.first + part.rows}
        assert text["rows"] == sum(here.values())
        assert text["tokens"] == sum(times * len(every[row]) for row, times in here.items())
    assert mixed_in(rows_of(3, 0), trainer.epoch_sampler(rows, 1), trainer.args, STEPS) == []


def test_the_examples_of_a_step_that_failed_are_named(tokenizer, tmp_path):
    """By their ids, which say which text they are of."""
    named = []
    trainer = trainer_of(tokenizer, tmp_path, save_strategy="no")
    trainer.add_callback(At(8, lambda model: named.append(trainer.examples_of(7, 0))))
    trainer.train()
    ids = [int(number) for number in named[0].removeprefix("example_id ").split(", ")]
    order = mixture().order(1, shuffled=True)
    sampler = trainer.epoch_sampler(mixture(), 1)
    sampler.set_epoch(1)
    places = [key % len(order) for key in list(sampler)[8:12]]  # the third step of the second epoch
    assert ids == [mixture().rows[row]["example_id"] for _, row in order((1, place) for place in places)]
    assert any(number >= IDS_OF_A_TEXT for number in ids)


@pytest.mark.slow
def test_another_mixture_is_another_run(tokenizer, tmp_path):
    trainer_of(tokenizer, tmp_path / "run", max_steps=1).train()
    plain = rows_of(OWN, 0)
    of_mixture = r"training text was '11 rows, \w{16}, mixed with 4 an epoch of 3 rows, \w{16}, mixed with 2 an epoch"
    for rows in (mixture(other=7), plain):
        with pytest.raises(ValueError, match=of_mixture):
            trainer_of(tokenizer, rows=rows, max_steps=1).train(resume_from_checkpoint=tmp_path / "run")
    trainer_of(tokenizer, tmp_path / "plain", rows=plain, max_steps=1).train()
    with pytest.raises(ValueError, match=r"training text was '11 rows, \w{16}' and is now '11 rows, \w{16}, mixed"):
        trainer_of(tokenizer, max_steps=1).train(resume_from_checkpoint=tmp_path / "plain")


def test_a_name_that_the_trainer_would_not_load_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"mix: received {'general': 0\.1} with train_dataset Dataset\. Accepted"):
        make_trainer(tokenizer, rows_of(8, 0), mix="general=0.1")
    trainer = make_trainer(tokenizer, mixture(), mix={"a": 0.25, "b": 0.15}, save_strategy="no", max_steps=1)
    trainer.train_dataset = rows_of(8, 0)
    with pytest.raises(ValueError, match="with train_dataset Dataset"):
        trainer.train()
    trainer = make_trainer(tokenizer, rows_of(8, 0), save_strategy="no", max_steps=1)
    trainer.args.mix = "general=0.1"
    with pytest.raises(ValueError, match=r"mix: received 'general=0\.1' in trainer\.args, and the trainer was"):
        trainer.train()


def test_another_data_set_may_be_mixed_as_well(tokenizer):
    trainer = make_trainer(tokenizer, rows_of(8, 0), save_strategy="no", max_steps=1)
    trainer.train_dataset = mixture()
    trainer.train()
    assert len(trainer._step_seeds.sampler) == OWN + 6


def test_rows_beyond_the_models_ids_are_refused(tokenizer):
    rows = mix_rows(rows_of(8, 0), {"a": (Dataset.from_dict({"input_ids": [[101, 5_000, 102]]}), 0.2)})
    with pytest.raises(ValueError, match="train_dataset, 'a': row 0 has the id 5000"):
        make_trainer(tokenizer, rows, eval_rows=None).train()


@pytest.mark.slow
def test_labels_that_rows_bring_are_mixed_too(tokenizer):
    def labelled(number, seed):
        rows = rows_of(number, seed)
        return rows.add_column("labels", [[-100, *ids[1:-1], -100] for ids in rows["input_ids"]])

    def trained(seed):
        rows = mix_rows(labelled(8, 0), {"a": (labelled(4, seed), 0.3)})
        trainer = make_trainer(tokenizer, rows, eval_rows=None, max_steps=3, save_strategy="no")
        assert set(trainer.identity()) > {"training text", "training labels"}
        trainer.train()
        return weights(trainer)

    def labels(first):
        other = rows_of(4, 1).add_column("labels", [[first, *ids[1:]] for ids in rows_of(4, 1)["input_ids"]])
        rows = mix_rows(labelled(8, 0), {"a": (other, 0.3)})
        return make_trainer(tokenizer, rows, eval_rows=None).identity()["training labels"]

    assert labels(-100) != labels(101)
    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_a_collator_of_transformers_gets_the_same_rows(tokenizer):
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.4)
    args = MLMConfig(per_device_train_batch_size=20, seed=1, use_cpu=True, output_dir="unused")
    trainer = MLMTrainer(
        make_bert(tokenizer), args=args, train_dataset=mixture(), processing_class=tokenizer, data_collator=collator
    )
    (batch,) = trainer.get_train_dataloader()
    found = Counter(int(mask.sum()) for mask in batch["attention_mask"])
    assert found == Counter(len(mixture().rows[int(row)]["input_ids"]) for row in mixture().order(1, True).rows(0))
