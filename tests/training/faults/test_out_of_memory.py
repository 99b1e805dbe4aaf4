"""Memory runs out, really or injected: the run is the same as with enough memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, make_model
from hypothesis import given
from hypothesis import strategies as st
from launched import found_by_each, run_together
from little_memory import CASES, LAYOUTS, STEPS, LittleMemory, make_rows, train, two_tokenizer
from same_run import assert_same_run, assert_same_weights
from transformers import TrainerCallback

from mlm_recipes import cli
from mlm_recipes.masking import batch_plan
from mlm_recipes.masking.batch_layout import count_examples, split
from mlm_recipes.masking.collator import DataCollatorForMaskedLM
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.report import wording

#: Every second of them for every second layout.
INJECTED = [("forward", 16, 1), ("backward", 16, 1), ("backward", 4, 4), ("forward", 4, 4)]


@pytest.fixture(scope="module")
def many_rows(tokenizer):
    return make_rows(tokenizer)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Let a short batch make several parts; skip freeing memory, which takes 0.2 s and is not needed here."""
    monkeypatch.setitem(batch_plan.PRICE, "cpu", 8)
    monkeypatch.setattr("mlm_recipes.training.faults.out_of_memory.clear_device_cache", lambda garbage_collection: None)


def run(*command, **environment):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment, check=False, timeout=150
    )  # fmt: skip


@pytest.mark.parametrize(
    "layout",
    [
        "padding-free",
        *(pytest.param(layout, marks=pytest.mark.slow) for layout in LAYOUTS if layout != "padding-free"),
    ],
)
def test_an_injected_oom_does_not_change_the_run(tokenizer, many_rows, layout, caplog):
    """In the forward and the backward pass of a middle layer, at a random step; 1 x 16, and 4 x 4 by accumulation."""
    whole = train(many_rows, tokenizer, layout)
    begun = make_model(LAYOUTS[layout][0], tokenizer)
    assert whole.trainer.micro_batch_parts == 1
    assert "Out of memory" not in caplog.text
    number = list(LAYOUTS).index(layout)
    draw = np.random.default_rng(number)
    for where, batch, accumulation in INJECTED[number % 2 :: 2]:
        caplog.clear()
        fits, step = int(draw.integers(1, batch)), int(draw.integers(STEPS - 1))
        memory = LittleMemory(fits, step, where, micro_batch=int(draw.integers(accumulation)))
        values = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        found = train(many_rows, tokenizer, layout, memory, **values)
        assert_same_run((found.logged, found.weights), (whole.logged, whole.weights), begun, STEPS)
        parts = found.trainer.micro_batch_parts
        assert -(-batch // parts) <= fits < -(-batch // (parts // 2))
        assert memory.failures == np.log2(parts)
        rows = wording.count(-(-batch // parts), "row")
        assert [message for message in caplog.messages if "Out of memory" in message] == [
            f"Out of memory in step {step + 1}: from now on a micro-batch is {rows} instead of {batch}, "
            f"accumulated {accumulation * parts} times instead of {accumulation}. The global batch and the result "
            "stay the same."
        ]


@pytest.mark.slow
def test_real_memory_exhaustion():
    """In a process with a memory limit (RLIMIT_AS), for torch's own allocator.

    With this threshold malloc returns large blocks to the system; otherwise they would count and oneDNN get none.
    """
    done = run(ROOT / "tests/real_memory.py", "found.json", MALLOC_MMAP_THRESHOLD_="65536")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(Path("found.json").read_text("utf-8"))
    assert found["parts"][0] >= 2
    assert found["parts"][1] == 1
    assert done.stdout.count("Out of memory") + done.stderr.count("Out of memory") == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = run_together(2, ROOT / "tests/little_memory.py", folder)
    assert (done.stdout + done.stderr).count("Out of memory in step") == len(CASES)  # one of the two says it, once
    return found_by_each(2, folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_injected_oom_in_one_of_two_processes_does_not_change_the_run(two, case):
    """Also in a backward pass that has already sent some gradients; no process waits forever."""
    (who, where, step, _), changes = CASES[case]
    whole, begun = two[0][changes.get("gradient_accumulation_steps", 1)], make_model("bert", two_tokenizer())
    assert whole["parts"] == 1
    for found in two:
        ours = found[case]["logged"], found[case]["weights"]
        assert_same_run(ours, (whole["logged"], whole["weights"]), begun, STEPS)
        assert found[case]["parts"] == (4 if whole is two[0][1] else 2)
    assert torch.equal(two[0][case]["weights"], two[1][case]["weights"])
    for rank in (0, 1):
        if who not in (rank, 2):
            assert not two[rank][case]["sent"]
            continue
        ((sent, of),) = two[rank][case]["sent"]
        assert of >= 7 if step else of >= 1  # torch makes its buckets anew after the first step
        assert 0 < sent < of if where == "backward" else sent == 0


@pytest.mark.slow
def test_a_row_that_does_not_fit_ends_every_process_with_the_same_error(two):
    for found in two:
        assert found["error"].startswith("per_device_train_batch_size: received 8, but not even a single row fits")
    assert ["in another process" in found["error"] for found in two] == [True, False]


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_as_one(two):
    for found in two:
        assert torch.equal(found[1]["weights"], two[0][1]["weights"])
        assert_same_weights(found[2]["weights"], found[1]["weights"], make_model("bert", two_tokenizer()), STEPS)


@pytest.mark.slow
def test_parts_double_until_they_fit_and_are_kept_for_a_resumed_run(tokenizer, many_rows, tmp_path, caplog):
    """Bit for bit, with dropout."""
    values = {"dropout": 0.1, "save_strategy": "steps", "save_steps": 1, "max_steps": 4, "output_dir": str(tmp_path)}
    memory = LittleMemory(9, since=0)
    trained = train(many_rows, tokenizer, "padding-free and sparse", memory, per_device_train_batch_size=18, **values)
    assert (memory.failures, trained.trainer.micro_batch_parts) == (1, 2)
    parts = SimpleNamespace(watch=lambda trainer: setattr(trainer._parts, "parts", 2))
    begun = train(many_rows, tokenizer, "padding-free and sparse", parts, per_device_train_batch_size=18, **values)
    assert torch.equal(trained.weights, begun.weights)  # as if it had begun with two parts
    second = LittleMemory(5, since=1)
    twice = train(many_rows, tokenizer, "padding-free and sparse", second, per_device_train_batch_size=18, **values)
    assert (second.failures, twice.trainer.micro_batch_parts) == (2, 4)
    assert caplog.text.count("Out of memory") == 2  # one line for each run
    resumed = train(
        many_rows, tokenizer, "padding-free and sparse", second, per_device_train_batch_size=18, **values,
        resume_from_checkpoint=str(tmp_path / "checkpoint-2"),
    )  # fmt: skip
    assert (second.failures, resumed.trainer.micro_batch_parts) == (2, 4)  # it knew, and did not fail again
    assert torch.equal(resumed.weights, twice.weights)
    assert resumed.logged == twice.logged
    smaller = train(
        many_rows, tokenizer, "padding-free and sparse", per_device_train_batch_size=9, gradient_accumulation_steps=2,
        **values, resume_from_checkpoint=str(tmp_path / "checkpoint-3"),
    )  # fmt: skip
    assert smaller.trainer.micro_batch_parts == 2  # 5 rows fitted


@pytest.mark.slow
def test_a_step_of_so_many_tokens_is_computed_in_parts_that_fit(tokenizer, many_rows, tmp_path, caplog):
    values = {"tokens_per_batch": 160, "output_dir": str(tmp_path), "save_strategy": "steps", "save_steps": 1}
    layout = "padding-free and sparse"
    whole = train(many_rows, tokenizer, layout, **values | {"save_strategy": "no"})
    found = train(many_rows, tokenizer, layout, LittleMemory(6, since=1), **values)
    assert found.trainer.micro_batch_parts == 2
    begun = make_model(LAYOUTS[layout][0], tokenizer)
    assert_same_run((found.logged, found.weights), (whole.logged, whole.weights), begun, STEPS)
    assert "now on a micro-batch is 80 tokens instead of 160, accumulated 2 times instead of 1" in caplog.text
    again = train(many_rows, tokenizer, layout, **values, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.trainer.micro_batch_parts == 2, "it knew that 80 tokens fit"
    with pytest.raises(MemoryError, match=r"^tokens_per_batch: received 160, but not even a single row"):
        train(many_rows, tokenizer, layout, LittleMemory(0), **values | {"output_dir": str(tmp_path / "none")})


def test_a_single_row_that_does_not_fit_is_a_clear_error(tokenizer, many_rows):
    with pytest.raises(MemoryError, match=r"received 16, but not even a single row .*could not create a primitive"):
        train(many_rows, tokenizer, "padding-free", LittleMemory(0))


def test_a_batch_that_cannot_be_split_gets_a_suggestion_with_the_same_global_batch(tokenizer, many_rows, monkeypatch):
    def own_loss(outputs, labels, num_items_in_batch=None):
        return masked_lm_loss(outputs, labels, num_items_in_batch)

    with pytest.raises(MemoryError, match=r"its parts may not add up .*size 5 --gradient_accumulation_steps 6\.$"):
        train(
            many_rows, tokenizer, "padded", LittleMemory(3), compute_loss_func=own_loss,
            per_device_train_batch_size=15, gradient_accumulation_steps=2,
        )  # fmt: skip


def test_sharded_models_are_not_split(tokenizer, many_rows):
    class Shard(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            memory.trainer.is_fsdp_enabled = True

    memory = LittleMemory(3)
    with pytest.raises(MemoryError, match=r"with FSDP several .*size 8 --gradient_accumulation_steps 2\.$"):
        train(many_rows, tokenizer, "padded", memory, callbacks=[Shard()])
    assert memory.failures == 1


def test_other_errors_are_passed_on(tokenizer, many_rows):
    errors = (RuntimeError("could not create a primitive descriptor for the matmul primitive"),)
    with pytest.raises(RuntimeError, match="primitive descriptor"):
        train(many_rows, tokenizer, "padded", LittleMemory(3, errors=errors))


def test_the_command_line_reports_it_without_a_traceback(monkeypatch, capsys):
    def full(*_, **__):
        raise MemoryError("max_length: received 512.")

    monkeypatch.setattr("mlm_recipes.recipes.train.train", full)
    assert cli.main(["train", "quickstart"]) == 2
    assert capsys.readouterr().err == "mlm-recipes: error: max_length: received 512.\n"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 12), st.booleans())
def test_parts_cover_a_batch_once_and_in_order(tokenizer, lengths, parts, padding_free):
    collate = DataCollatorForMaskedLM(tokenizer, padding_free=padding_free)
    batch = collate([[101, *range(104, 103 + length), 102] for length in lengths])
    found = split(batch, parts)
    sizes = [count_examples(part) for part in found]
    assert sum(sizes) == count_examples(batch) == len(lengths)
    assert len(found) == min(parts, len(lengths))
    assert max(sizes) == -(-len(lengths) // len(found))
    for name in ("input_ids", "labels"):
        assert torch.equal(torch.cat([part[name] for part in found], dim=int(padding_free)), batch[name])
    if not padding_free or len(found) == 1:
        return
    alone = [collate([row]) for row in ([101, *range(104, 103 + length), 102] for length in lengths)]
    assert [part["max_length_q"] for part in split(batch, len(lengths))] == [one["max_length_q"] for one in alone]
    for part, one in zip(split(batch, len(lengths)), alone, strict=True):
        for name in ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k"):
            assert torch.equal(part[name], one[name])
            assert part[name].dtype == one[name].dtype


def test_a_batch_of_another_kind_is_one_example():
    batch = {"input_ids": torch.zeros(4, 3), "weights": torch.zeros(12)}
    assert count_examples(batch) == 1
    assert split(batch, 4) == [batch]
