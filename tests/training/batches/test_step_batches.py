from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from balanced_processes import STEPS, TOKENS, train
from conftest import ROOT, make_model
from hypothesis import given
from hypothesis import strategies as st
from launched import found_by_each, run_together
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights
from small_run import NUMBERED, make_trainer
from torch.utils.data import BatchSampler
from transformers import DataCollatorForLanguageModeling
from two_processes import rows_and_tokenizer

from mlm_recipes import MLMConfig
from mlm_recipes.training.batches.example_order import NO_EXAMPLE, STRATEGIES, EpochSampler
from mlm_recipes.training.batches.step_batches import StepBatches
from mlm_recipes.training.batches.token_budget import step_starts

LAYOUTS = [(8, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (2, 1, 4), (1, 4, 2)]


def make(lengths, layout, strategy="random", by_length=True, tokens=None):
    rows, accumulation, processes = layout
    whole = np.array(lengths)
    sampler = EpochSampler(
        len(lengths), 3, strategy=strategy, global_batch_size=rows * accumulation * processes,
        multiple_of=rows * processes, lengths=lambda epoch: whole, tokens_per_batch=tokens,
    )  # fmt: skip
    return StepBatches(sampler, processes, accumulation, rows if tokens is None else None, by_length)


def steps_of(batches, processes, per_step):
    """Return the keys of each step, as accelerate gives them to the processes."""
    each = [list(BatchSamplerShard(batches, processes, process)) for process in range(processes)]
    assert len({len(mine) for mine in each}) == 1, "a process would wait for another's batch"
    assert len(each[0]) == len(BatchSamplerShard(batches, processes, 0))
    return [
        [[key for batch in mine[first : first + per_step] for key in batch if key != NO_EXAMPLE] for mine in each]
        for first in range(0, len(each[0]), per_step)
    ]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    layout=st.sampled_from(LAYOUTS),
    strategy=st.sampled_from(STRATEGIES),
    epoch=st.integers(0, 3),
)
def test_a_step_has_the_same_rows_and_each_process_as_many_by_length_or_not(lengths, layout, strategy, epoch):
    rows, accumulation, processes = layout
    found = {}
    for by_length in (True, False):
        batches = make(lengths, layout, strategy, by_length)
        batches.set_epoch(epoch)
        found[by_length] = steps_of(batches, processes, accumulation)
        assert {len(batch) for batch in batches} == {rows}
        if not by_length:
            assert list(batches) == list(BatchSampler(batches.sampler, rows, drop_last=False)), "as torch makes them"
    assert [sorted(chain(*step)) for step in found[True]] == [sorted(chain(*step)) for step in found[False]]


def test_every_process_computes_the_same_division():
    lengths = np.random.default_rng(0).integers(3, 512, 640).tolist()
    assert list(make(lengths, (16, 1, 8))) == list(make(lengths, (16, 1, 8)))


def test_processes_get_about_equally_many_tokens_and_so_do_micro_batches():
    lengths = np.random.default_rng(0).exponential(100, 16 * 8 * 10).astype(int) + 3
    batches = make(lengths, (8, 2, 8))
    of_batch = np.array([lengths[[key % len(lengths) for key in batch]].sum() for batch in batches])
    of_process = of_batch.reshape(10, 2, 8).sum(1)  # (steps, processes)
    assert of_process.max() / of_process.mean() < 1.2, "of all steps, whose totals differ"
    assert (of_process.max(1) / of_process.mean(1)).max() < 1.01
    assert (of_batch.reshape(10, 16).max(1) / of_batch.reshape(10, 16).mean(1)).mean() < 1.05
    facts = batches.loads.facts(range(10))
    expected = of_process.max(1).sum() / of_process.mean(1).sum()
    plain = make(lengths, (8, 2, 8), by_length=False)
    list(plain)
    assert facts == {"by_length": True, "max_to_mean": pytest.approx(expected), "in_order": pytest.approx(1.4, abs=0.1)}
    assert plain.loads.facts(range(10))["max_to_mean"] == pytest.approx(facts["in_order"])
    assert batches.loads.facts(range(10, 20)) is None, "those steps were not taken"


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    budget=st.integers(60, 400),
    layout=st.sampled_from(LAYOUTS),
    strategy=st.sampled_from(STRATEGIES),
    by_length=st.booleans(),
)
def test_a_step_of_so_many_tokens_has_the_same_rows_however_it_is_split(lengths, budget, layout, strategy, by_length):
    total, longest = sum(lengths), max(lengths)
    for epoch in (0, 1):
        found = []
        for split in ((1, 1, 1), layout):
            batches = make(lengths, split, strategy, by_length, tokens=budget)
            batches.set_epoch(epoch)
            found.append([sorted(chain(*step)) for step in steps_of(batches, split[2], split[1])])
        assert found[0] == found[1]
        assert len(found[0]) == -(-total // budget) == batches.sampler.steps_an_epoch, "the same in every epoch"
        assert sorted(key for step in found[0] for key in step) == [
            epoch * len(lengths) + i for i in range(len(lengths))
        ]
        share = total / len(found[0])
        for step in found[0]:
            assert step, "a step without a row"
            tokens = sum(lengths[key % len(lengths)] for key in step)
            if longest <= share:
                assert abs(tokens - share) <= longest
            else:
                assert tokens <= 2 * longest + share


def test_no_step_is_without_a_row_if_a_row_is_longer_than_two_shares():
    assert step_starts([300, 300, 1], steps=3).tolist() == [0, 1, 2, 3]


def test_each_row_is_masked_by_the_share_of_its_step_in_later_epochs_too():
    batches = make([5, 9, 3, 12, 7], (1, 2, 1), tokens=12)
    batches.share = lambda step: step / 10
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        found = [[key.share for key in batch] for batch in batches]
        assert [shares[0] for shares in found[::2]] == [step / 10 for step in range(3 * epoch, 3 * epoch + 3)]


def test_a_row_that_is_longer_than_a_step_is_refused():
    with pytest.raises(ValueError, match=r"received 40, and the longest row has 60 tokens.*--tokens_per_batch 960"):
        make([5, 60, 7], (1, 1, 1), tokens=40)


@pytest.fixture(scope="module")
def data():
    return rows_and_tokenizer()


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 3},
        {"padding_free": False},
        {"balance_lengths": False, "gradient_accumulation_steps": 2},
    ],
    ids=["accumulated", "padded", "in order"],
)  # fmt: skip
def test_steps_of_so_many_tokens_are_one_run_in_any_layout(tokenizer, tmp_path, changes):
    values = {"tokens_per_batch": 30, "save_strategy": "no"} | PROPORTIONAL_STEPS
    runs = []
    for more in ({}, changes):
        trainer = make_trainer(tokenizer, NUMBERED, tmp_path, **values | more)
        trainer.train()
        logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        runs.append((logged, flat_weights(trainer.model)))
    assert_same_run(runs[1], runs[0], make_trainer(tokenizer, NUMBERED, tmp_path).model, 6)


def test_an_epoch_of_so_many_tokens_counts_its_own_steps(tokenizer, tmp_path):
    total = sum(len(row["input_ids"]) for row in NUMBERED)  # 71
    trainer = make_trainer(
        tokenizer, NUMBERED, tmp_path, max_steps=-1, num_train_epochs=2, tokens_per_batch=20, save_strategy="epoch",
        warmup_steps=0.25, lr_scheduler_type="linear", learning_rate=8e-3,
    )  # fmt: skip
    trainer.train()
    assert total == 71
    assert (trainer.state.max_steps, trainer.state.global_step, trainer.state.epoch) == (8, 8, 2.0)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates[:3] == pytest.approx([0.0, 4e-3, 8e-3]), "a quarter of eight steps warms up"
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert trainer.token_counter.counts().tolist() == [2 * total, 0]


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3, 4])  # within the first epoch, at its end, within the second
def test_a_run_of_so_many_tokens_resumes_exactly(tokenizer, tmp_path, step):
    values = {"tokens_per_batch": 25, "save_steps": 1, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.1}
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "whole", **values)
    whole.train()
    assert whole._step_seeds.sampler.steps_an_epoch == 3
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "again", **values)
    resumed.train(resume_from_checkpoint=tmp_path / f"whole/checkpoint-{step}")
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    other = make_trainer(tokenizer, NUMBERED, tmp_path / "other", **values | {"tokens_per_batch": 30})
    with pytest.raises(ValueError, match="belongs to another run: tokens_per_batch was 25 and is now 30"):
        other.train(resume_from_checkpoint=tmp_path / f"whole/checkpoint-{step}")
    split = make_trainer(
        tokenizer, NUMBERED, tmp_path / "split", per_device_train_batch_size=7, gradient_accumulation_steps=2, **values
    )
    split.check_resume(tmp_path / f"whole/checkpoint-{step}")  # the same run, divided otherwise


def test_a_loss_that_is_not_finite_names_the_rows_of_its_micro_batch(tokenizer, tmp_path):
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path, tokens_per_batch=25, gradient_accumulation_steps=2)
    batches = list(trainer.get_train_dataloader().batch_sampler)
    for step, micro_batch in ((0, 0), (0, 1), (1, 0)):
        keys = batches[2 * step + micro_batch]
        assert trainer.examples_of(step, micro_batch) == "example_id " + ", ".join(str(70 + key) for key in keys)


def test_a_collator_that_needs_rows_is_refused(tokenizer, tmp_path):
    trainer = make_trainer(tokenizer, NUMBERED, tmp_path, tokens_per_batch=25)
    trainer.data_collator = DataCollatorForLanguageModeling(tokenizer)
    with pytest.raises(ValueError, match="tokens_per_batch: received 25 with your data_collator, DataCollatorForLang"):
        trainer.get_train_dataloader()


@pytest.mark.parametrize(
    ("values", "said"),
    [({"tokens_per_batch": 0}, "received 0"), ({"tokens_per_batch": 64, "streaming": True}, "received 64 with stream")],
)
def test_a_number_that_no_step_can_have_is_refused(values, said):
    with pytest.raises(ValueError, match=f"tokens_per_batch: {said}"):
        MLMConfig(use_cpu=True, max_steps=1, **values)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("two")
    run_together(2, ROOT / "tests/balanced_processes.py", folder, cwd=folder)
    return found_by_each(2, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by length", "in order", "accumulated", "padded", "tokens", "tokens in order"])
def test_two_processes_are_the_run_of_one_however_rows_are_dealt(data, two, tmp_path, name):
    values = {"tokens_per_batch": TOKENS} if name.startswith("tokens") else {"per_device_train_batch_size": 8}
    alone = train(*data, tmp_path, **values)
    for found in two:
        assert_same_run(found[name][:2], alone[:2], make_model("bert", data[1]), STEPS)
    assert torch.equal(two[0][name][1], two[1][name][1])
    assert two[0][name][2] == two[1][name][2], "every process knows all loads"
    assert alone[2] is None


@pytest.mark.slow
def test_two_processes_record_how_evenly_their_tokens_were_dealt(two):
    by_length, in_order = two[0]["by length"][2], two[0]["in order"][2]
    assert by_length["by_length"]
    assert not in_order["by_length"]
    assert in_order["max_to_mean"] == in_order["in_order"] == by_length["in_order"] > by_length["max_to_mean"] > 1
    assert two[0]["padded"][2] is None, "padded rows do not cost what their tokens do"
    assert 1 < two[0]["tokens"][2]["max_to_mean"] < two[0]["tokens in order"][2]["max_to_mean"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by length", "tokens"])
@pytest.mark.parametrize("step", [2, 5, 6])
def test_two_processes_resume_bit_for_bit_with_dropout(two, name, step):
    for found in two:
        whole, resumed = found[f"{name}, whole"], found[f"{name}, resumed {step}"]
        assert torch.equal(resumed[1], whole[1])
        assert resumed[0] == whole[0]
