"""Batches of places are those of the sampler, for any number of processes, and cost nothing to pass over."""

from __future__ import annotations

import itertools

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from mlm_recipes.training.batches.example_order import NO_EXAMPLE
from mlm_recipes.training.batches.places import PlaceBatches, Places
from mlm_recipes.training.batches.scheduled_shares import ScheduledSampler


def places(rows, **values):
    return Places(rows, seed=0, strategy="sequential", **values)


@given(
    rows=st.integers(1, 60), size=st.integers(1, 9), epoch=st.integers(0, 3), processes=st.integers(1, 3),
    drop_last=st.booleans(), accumulation=st.integers(1, 2),
)  # fmt: skip
@settings(max_examples=80)
def test_each_process_gets_the_batches_that_a_plain_sampler_gives_it(
    rows, size, epoch, processes, drop_last, accumulation
):
    sampler = places(
        rows,
        global_batch_size=size * processes * accumulation,
        drop_last=drop_last,
        multiple_of=size * processes if processes > 1 else 1,
    )
    sampler.set_epoch(epoch)
    plain, ours = BatchSampler(sampler, size, drop_last=False), PlaceBatches(sampler, size)
    assert [list(batch) for batch in ours] == list(plain)
    assert len(ours) == len(plain)
    for process in range(processes):
        shares = [BatchSamplerShard(batches, processes, process, even_batches=True) for batches in (plain, ours)]
        assert [list(batch) for batch in shares[1]] == list(shares[0])


@given(
    rows=st.integers(1, 60), layout=st.sampled_from([(8, 1), (4, 1), (2, 2), (1, 4)]), epoch=st.integers(0, 4),
    drop_last=st.booleans(),
)  # fmt: skip
def test_a_place_is_of_the_step_that_a_key_of_a_list_is_of(rows, layout, epoch, drop_last):
    """With eight rows a step, by accumulation and in several processes."""
    size, processes = layout
    sampler = places(
        rows, global_batch_size=8, drop_last=drop_last, multiple_of=size * processes if processes > 1 else 1
    )
    sampler.set_epoch(epoch)
    keys = [key for key in ScheduledSampler(sampler, 8, share=lambda step: float(step)) if key != NO_EXAMPLE]
    assert [sampler.step_of(int(key)) for key in keys] == [key.share for key in keys]


@pytest.mark.parametrize("passed", [1, 78_125, 154_688])
def test_batches_that_are_passed_over_are_never_made_of_numbers(passed):
    skipping = SkipBatchSampler(PlaceBatches(places(10**7), 64), passed)
    first, second = itertools.islice(skipping, 2)
    assert first == range(passed * 64, passed * 64 + 64)
    assert second == range(passed * 64 + 64, passed * 64 + 128)
