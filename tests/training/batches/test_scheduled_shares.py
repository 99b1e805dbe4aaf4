"""The share of masked tokens is a function of the optimizer step, however the rows of the step are fetched."""

from __future__ import annotations

import pickle

import pytest
import torch
from conftest import ROOT, make_bert
from datasets import IterableDataset
from hypothesis import given
from hypothesis import strategies as st
from launched import found_by_each, run_together
from same_run import flat_weights
from scheduled_run import A_STEP, ROWS, SCHEDULE, STEPS, STREAM, TOKENS, logged, make_rows, run, stream
from torch.utils.data import BatchSampler
from transformers import DataCollatorForLanguageModeling, TrainerCallback

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.recipes.result import plan_of
from mlm_recipes.training.batches.example_order import NO_EXAMPLE, EpochSampler
from mlm_recipes.training.batches.scheduled_shares import ScheduledKey, ScheduledSampler

pytestmark = pytest.mark.usefixtures("signals_as_ever")


def linear(step, total=STEPS):
    return 0.5 + (0.1 - 0.5) * step / (total - 1)


def assert_shares(masks, shares):
    """Hold the number of masked tokens of each step against five standard deviations of independent draws."""
    assert len(masks) == len(shares)
    for (step, rows), share in zip(sorted(masks.items()), shares, strict=True):
        tokens = len(rows) * TOKENS
        found = sum(len(positions) for _, positions in rows) / tokens
        assert abs(found - share) <= 5 * (share * (1 - share) / tokens) ** 0.5, (step, found, share)


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    """A run with a checkpoint after each step."""
    folder = tmp_path_factory.mktemp("whole")
    trainer, masks = run(tokenizer, folder=folder)
    return trainer, masks, folder


def test_each_step_masks_its_share_and_logs_it(whole):
    trainer, masks, _ = whole
    assert_shares(masks, [linear(step) for step in range(STEPS)])
    assert logged(trainer, "mlm_probability") == pytest.approx([linear(step) for step in range(STEPS)])
    assert [len(masks[step]) for step in range(6)] == [8, 8, 5] * 2
    assert len({row for step in range(3) for row, _ in masks[step]}) == ROWS


@pytest.mark.parametrize("end", [[0.3], [0.3, 0.1]])
def test_a_run_that_is_too_short_for_a_phase_says_so(end, tokenizer, caplog, tmp_path):
    values = {"mlm_probability": 0.5, "mlm_probability_schedule": "step", "mlm_probability_end": end}
    config = MLMConfig(
        output_dir=str(tmp_path), max_steps=2, use_cpu=True, save_strategy="no", logging_steps=1, disable_tqdm=True,
        **values,
    )  # fmt: skip
    trainer = MLMTrainer(make_bert(tokenizer), config, train_dataset=make_rows(), processing_class=tokenizer)
    trainer.train()
    assert logged(trainer, "mlm_probability") == [0.5, 0.3]
    said = (
        "mlm_probability_schedule: received 50%, 30%, 10%, in phases of equal length, and the run has only 2 steps. "
        "Accepted: a step or more for each phase. This run masks 50%, 30%, in phases of equal length. Train for more "
        "steps."
    )
    assert (said in caplog.messages) == (len(end) == 2)
    assert "masked: 50%, 30%, in phases of equal length (15%" in plan_of(config)


@pytest.mark.parametrize("layout", [(4, 2), (2, 4)])
def test_accumulation_changes_no_mask(tokenizer, whole, layout):
    assert run(tokenizer, layout)[1] == whole[1]


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_fetch_ahead_change_no_mask(tokenizer, whole, persistent):
    workers = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}
    trainer, masks = run(tokenizer, dataloader_persistent_workers=persistent, **workers)
    assert masks == whole[1]
    assert torch.equal(flat_weights(trainer.model), flat_weights(whole[0].model))


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_resumed_run_is_the_same(tokenizer, whole, step):
    """Within an epoch and at its end; with dropout, bit for bit."""
    before, masks, folder = whole
    trainer, found = run(tokenizer, resume=folder / f"checkpoint-{step}")
    assert found == {number: rows for number, rows in masks.items() if number >= step}
    assert torch.equal(flat_weights(trainer.model), flat_weights(before.model))
    assert logged(trainer, "mlm_probability") == logged(before, "mlm_probability")


def test_a_resumed_run_with_more_steps_follows_the_new_total(tokenizer, whole):
    changes = {"max_steps": 12, "change_on_resume": "max_steps"}
    trainer, masks = run(tokenizer, resume=whole[2] / "checkpoint-4", **changes)
    assert logged(trainer, "mlm_probability")[4:] == pytest.approx([linear(step, 12) for step in range(4, 12)])
    assert_shares(masks, [linear(step, 12) for step in range(4, 12)])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mlm_probability_end": 0.2}, r"mlm_probability_end was \[0.1\] and is now \[0.2\]"),
        ({"mlm_probability_schedule": "cosine"}, "mlm_probability_schedule was 'linear' and is now 'cosine'"),
        ({"mlm_probability_schedule": "constant", "mlm_probability_end": None}, "schedule was 'linear'"),
    ],
)
def test_another_schedule_is_another_run(tokenizer, whole, changes, says):
    with pytest.raises(ValueError, match=f"belongs to another run: .*{says}"):
        run(tokenizer, resume=whole[2] / "checkpoint-4", **changes)


def test_a_run_from_before_there_were_schedules_does_not_get_one(tokenizer, whole, tmp_path, monkeypatch):
    """Its checkpoint does not have these values, and a value that one side lacks is not compared."""
    recipe = MLMConfig.to_recipe
    without = {"mlm_probability_schedule": "constant", "mlm_probability_end": None}
    with monkeypatch.context() as patched:
        patched.setattr(
            MLMConfig, "to_recipe", lambda self: {k: v for k, v in recipe(self).items() if "probability_" not in k}
        )
        run(tokenizer, folder=tmp_path, max_steps=2, **without)
    with pytest.raises(ValueError, match=r"masking.mlm_probability was 0.5 and is now '50% to 10%, linear'"):
        run(tokenizer, resume=tmp_path / "checkpoint-1", max_steps=2)
    run(tokenizer, resume=tmp_path / "checkpoint-1", max_steps=2, **without)


@pytest.mark.slow
def test_epochs_have_as_many_steps_as_trainer_counts(tokenizer):
    """Three epochs of three steps, the last of each shorter."""
    trainer, masks = run(tokenizer, (2, 4), max_steps=-1, num_train_epochs=3)
    assert trainer.state.max_steps == 9
    assert_shares(masks, [linear(step, 9) for step in range(9)])
    assert logged(trainer, "mlm_probability")[-1] == 0.1


class StopAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def test_a_run_that_stops_early_has_followed_its_plan(tokenizer, whole):
    _, masks = run(tokenizer, callbacks=[StopAfter(4)])
    assert masks == {step: whole[1][step] for step in range(4)}


def test_phases_and_dropped_rows(tokenizer):
    phases = {"mlm_probability_schedule": "step", "mlm_probability_end": [0.3, 0.1], "dataloader_drop_last": True}
    trainer, masks = run(tokenizer, max_steps=6, logging_steps=2, **phases)
    assert logged(trainer, "mlm_probability") == [0.5, 0.3, 0.1]
    assert_shares(masks, [0.5, 0.5, 0.3, 0.3, 0.1, 0.1])


def test_without_a_schedule_nothing_is_logged_and_no_row_has_a_share(tokenizer):
    trainer, _ = run(tokenizer, max_steps=2, mlm_probability_schedule="constant", mlm_probability_end=None)
    assert "mlm_probability" not in trainer.state.log_history[0]
    loader = trainer.get_train_dataloader()
    assert {type(key) for batch in loader.batch_sampler for key in batch} == {int}
    assert set(loader.dataset[0]) == {"input_ids", "example_id", "epoch"}


def test_a_stream_follows_its_steps_through_all_epochs(tokenizer):
    """Three of them, none of which ends where a step ends."""
    _, masks = run(tokenizer, rows=stream(), **STREAM)
    assert_shares(masks, [linear(step) for step in range(STEPS)])
    assert {len(rows) for rows in masks.values()} == {A_STEP}


@pytest.mark.slow
def test_a_stream_is_the_same_by_accumulation_and_resumed(tokenizer, tmp_path):
    whole, masks = run(tokenizer, rows=stream(), folder=tmp_path, **STREAM)
    assert run(tokenizer, (2, 4), rows=stream(), **STREAM)[1] == masks
    for step in (2, 5):
        resumed, found = run(tokenizer, rows=stream(), resume=tmp_path / f"checkpoint-{step}", **STREAM)
        assert found == {number: rows for number, rows in masks.items() if number >= step}
        assert torch.equal(flat_weights(resumed.model), flat_weights(whole.model))


@pytest.mark.slow
def test_two_processes_mask_what_one_masks_and_resume_exactly(tokenizer, whole, tmp_path):
    streamed = run(tokenizer, rows=stream(), **STREAM)[1]
    run_together(2, ROOT / "tests/scheduled_run.py", tmp_path)
    for found in found_by_each(2, tmp_path):
        assert found["masks"] == whole[1]
        assert found["streamed"] == streamed
        assert found["shares"] == logged(whole[0], "mlm_probability")
        assert [step for step, *_ in found["resumed"]] == [2, 3, 4]
        for step, masks, same_weights in found["resumed"]:
            assert masks == {number: rows for number, rows in whole[1].items() if number >= step}
            assert same_weights


@given(
    n=st.integers(1, 60),
    layout=st.sampled_from([(8, 1, 1), (4, 2, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4)]),
    epoch=st.integers(0, 4),
    drop_last=st.booleans(),
)
def test_a_key_has_the_step_in_which_trainer_takes_it(n, layout, epoch, drop_last):
    batch, accumulation, processes = layout
    keys = EpochSampler(
        n, 3, global_batch_size=8, drop_last=drop_last, multiple_of=batch * processes if processes > 1 else 1
    )
    sampler = ScheduledSampler(keys, 8, share=lambda step: float(step))
    sampler.set_epoch(epoch)
    batches = list(BatchSampler(sampler, batch, drop_last=False))  # which accelerate gives the processes in turn
    assert len(sampler) == sum(map(len, batches))
    an_epoch = -(-len(batches) // (processes * accumulation))  # steps, as Trainer counts them
    for number, part in enumerate(batches):
        taken = epoch * an_epoch + number // processes // accumulation
        assert {key.share for key in part} == {float(taken)}
    plain = [key for key in keys if key != NO_EXAMPLE]
    assert [int(key) for part in batches for key in part if key != NO_EXAMPLE] == plain


def test_a_key_reaches_a_worker_whole():
    found = pickle.loads(pickle.dumps(ScheduledKey(7, 0.3)))
    assert (type(found), int(found), found.share) == (ScheduledKey, 7, 0.3)


def labelled():
    return [row | {"labels": [-100] * (TOKENS - 1) + [200]} for row in make_rows()]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda t: {"data_collator": DataCollatorForLanguageModeling(t)}, "your data_collator, DataCollatorForLang"),
        (
            lambda t: {"data_collator": DataCollatorForMaskedLM(t, mlm_probability=0.2)},
            "mlm_probability 0.5 in args and 0.2 in your data_collator",
        ),
        (
            lambda t: {"data_collator": DataCollatorForMaskedLM(t, mlm_probability=0.5, static_masks=True)},
            "a data_collator that has static_masks",
        ),
        (lambda t: {"train_dataset": labelled()}, "rows that bring labels"),
        (lambda t: {"train_dataset": IterableDataset.from_generator(labelled)}, "rows that bring labels"),
        (
            lambda t: {"train_dataset": [row | {"mlm_probability": 0.3} for row in make_rows()]},
            "received a row with 0.3, and args.mlm_probability_schedule",
        ),
    ],
)
def test_a_schedule_that_would_not_be_followed_is_refused(tokenizer, given, says):
    args = MLMConfig(max_steps=2, save_strategy="no", use_cpu=True, disable_tqdm=True, **SCHEDULE)
    values = {"train_dataset": make_rows()} | given(tokenizer)
    trainer = MLMTrainer(make_bert(tokenizer), args=args, processing_class=tokenizer, **values)
    with pytest.raises(ValueError, match=says):
        trainer.train()


def test_another_loader_than_ours_is_refused(tokenizer):
    class Own(MLMTrainer):
        def get_train_dataloader(self):
            rows = [row | {"epoch": 0} for row in make_rows()]
            return torch.utils.data.DataLoader(rows, A_STEP, collate_fn=self.data_collator)

    args = MLMConfig(max_steps=2, save_strategy="no", use_cpu=True, disable_tqdm=True, **SCHEDULE)
    trainer = Own(make_bert(tokenizer), args=args, train_dataset=make_rows(), processing_class=tokenizer)
    with pytest.raises(ValueError, match="'linear' with a get_train_dataloader of your own"):
        trainer.train()


def test_a_schedule_with_static_masks_is_refused():
    with pytest.raises(ValueError, match="mlm_probability_schedule: received 'linear' with static_masks"):
        MLMConfig(static_masks=True, **SCHEDULE)
