"""The collator's seed in a loop that does not number its epochs."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from accelerate import Accelerator
from conftest import make_bert
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from mlm_recipes import DataCollatorForMaskedLM

ROWS = [{"input_ids": [101, *[110] * 60, 102]} for _ in range(12)]  # copies, so that only their masks differ


def batches(loader, passes=2, torch_seed=None, peek=False):
    """The labels of all batches of some passes over a loader, as strings."""
    if torch_seed is not None:
        torch.manual_seed(torch_seed)
    if peek:
        next(iter(loader))
    return [str(batch["labels"].tolist()) for _ in range(passes) for batch in loader]


def loader(tokenizer, seed=42, workers=0, rows=ROWS, collate=None, **values):
    collate = collate or DataCollatorForMaskedLM(tokenizer, seed=seed)
    return DataLoader(rows, batch_size=2, collate_fn=collate, num_workers=workers, **values)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_seed_decides_and_torchs_generator_does_not(tokenizer, workers):
    first = batches(loader(tokenizer, workers=workers), torch_seed=0)
    assert batches(loader(tokenizer, workers=workers), torch_seed=1) == first
    assert len(set(first)) == len(first) == 12  # no two batches, workers or passes have the same masks
    assert not set(first) & set(batches(loader(tokenizer, seed=43, workers=workers), torch_seed=0))


def test_workers_that_stay_draw_new_masks_in_each_pass(tokenizer):
    values = {"workers": 2, "persistent_workers": True}
    first = batches(loader(tokenizer, **values))
    assert len(set(first)) == 12
    assert batches(loader(tokenizer, **values)) == first


@pytest.mark.slow
def test_a_pass_that_was_not_finished_counts_as_one(tokenizer):
    runs = [batches(loader(tokenizer, workers=2), passes=1, torch_seed=seed, peek=True) for seed in (0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] == batches(loader(tokenizer, workers=2))[6:]


@pytest.mark.slow
def test_seeding_torch_before_each_pass_does_not_repeat_the_masks(tokenizer):
    whole = loader(tokenizer, workers=2)
    found = [batches(whole, passes=1, torch_seed=0) for _ in range(3)]
    assert len(set(itertools.chain(*found))) == 18
    assert found[0] + found[1] == batches(loader(tokenizer, workers=2))


@pytest.mark.slow
def test_spawned_workers_draw_as_forked_ones(tokenizer):
    spawned = loader(tokenizer, workers=2, multiprocessing_context="spawn")
    assert batches(spawned) == batches(loader(tokenizer, workers=2))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda collate: pickle.loads(pickle.dumps(collate))])
def test_a_copy_counts_its_own_passes(tokenizer, copied, workers):
    collate = DataCollatorForMaskedLM(tokenizer, seed=42)
    other, expected = copied(collate), batches(loader(tokenizer, workers=workers))
    assert batches(loader(tokenizer, workers=workers, collate=other)) == expected
    assert batches(loader(tokenizer, workers=workers, collate=collate)) == expected


def test_a_seed_that_is_set_later_counts(tokenizer):
    collate = DataCollatorForMaskedLM(tokenizer, seed=1)
    collate(ROWS)
    collate.seed = 42
    assert batches(loader(tokenizer, collate=collate)) == batches(loader(tokenizer))


def test_without_a_seed_torchs_generator_decides(tokenizer):
    first = batches(loader(tokenizer, seed=None), torch_seed=0)
    assert batches(loader(tokenizer, seed=None), torch_seed=0) == first
    assert batches(loader(tokenizer, seed=None), torch_seed=1) != first


@pytest.mark.parametrize("seed", [None, 42])
def test_processes_that_draw_the_same_number_mask_different_rows_differently(tokenizer, seed):
    found = []
    for token in (110, 111):
        torch.manual_seed(0)
        found.append(str((DataCollatorForMaskedLM(tokenizer, seed=seed)([[token] * 200])["labels"] != -100).tolist()))
    assert found[0] != found[1]


def test_rows_that_name_their_epoch_have_the_masks_of_seed_0_without_a_seed(tokenizer):
    rows = [row | {"example_id": i, "epoch": 3} for i, row in enumerate(ROWS)]
    masks = [DataCollatorForMaskedLM(tokenizer, seed=seed)(rows)["labels"].tolist() for seed in (None, 0, 1)]
    assert masks[0] == masks[1] != masks[2]
    static = [DataCollatorForMaskedLM(tokenizer, static_masks=True, seed=seed)(rows) for seed in (None, 0)]
    assert static[0]["labels"].tolist() == static[1]["labels"].tolist()


def test_an_accelerate_loop_repeats_itself(tokenizer):
    accelerator = Accelerator(cpu=True)
    runs = [batches(accelerator.prepare(loader(tokenizer)), torch_seed=seed) for seed in (0, 1)]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 12


@pytest.mark.slow
def test_plain_trainer_repeats_itself(tokenizer):
    def losses(seed):
        args = TrainingArguments(
            output_dir="out", max_steps=3, per_device_train_batch_size=4, use_cpu=True, report_to="none",
            save_strategy="no", logging_steps=1, disable_tqdm=True, seed=1,
        )  # fmt: skip
        collate = DataCollatorForMaskedLM(tokenizer, seed=seed)
        trainer = Trainer(make_bert(tokenizer), args, data_collator=collate, train_dataset=ROWS)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert losses(42) == losses(42) != losses(43)
