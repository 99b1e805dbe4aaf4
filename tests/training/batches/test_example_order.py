from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from mlm_recipes.masking.random_keys import dropout_seed
from mlm_recipes.training.batches.example_order import NO_EXAMPLE, STRATEGIES, EpochSampler


def steps(sampler, batch, accumulation, processes):
    """Return the keys of each optimizer step of an epoch, distributed to processes as accelerate does."""
    batches = list(BatchSampler(sampler, batch, drop_last=False))
    assert len(batches) % processes == 0, "a process would wait for another's batch"
    per_step = accumulation * processes
    return [list(chain(*batches[i : i + per_step])) for i in range(0, len(batches), per_step)]


def make(n, batch, accumulation, processes, **changes):
    values = {"seed": 3, "global_batch_size": batch * accumulation * processes, "multiple_of": batch * processes}
    if changes.get("strategy") == "group_by_length":
        values["lengths"] = lambda epoch: 1 + np.arange(n) * 7 % 13
    return EpochSampler(n, **(values | changes))


@given(
    n=st.integers(1, 100),
    layout=st.sampled_from([(8, 1, 1), (4, 2, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4)]),
    epoch=st.integers(0, 5),
    strategy=st.sampled_from(STRATEGIES),
    drop_last=st.booleans(),
)
def test_a_step_sees_the_same_examples_however_the_batch_is_split(n, layout, epoch, strategy, drop_last):
    found = []
    for split in ((8, 1, 1), layout):
        sampler = make(n, *split, strategy=strategy, drop_last=drop_last)
        sampler.set_epoch(epoch)
        found.append([sorted(key for key in step if key != NO_EXAMPLE) for step in steps(sampler, *split)])
        assert len(list(sampler)) == len(sampler)
    assert found[0] == found[1]
    seen = Counter(key for step in found[0] for key in step)
    assert set(seen.values()) <= {1}, "an example came twice"
    assert len(seen) == (n - n % 8 if drop_last else n)
    assert {key // n for key in seen} <= {epoch}
    assert {key % n for key in seen} <= set(range(n))


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return [key % 50 for key in sampler]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_every_position_is_equally_likely_for_every_example():
    """Over many epochs, the mean position of each example is the middle."""
    sampler, places = EpochSampler(20, seed=0), torch.zeros(20)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        for place, key in enumerate(sampler):
            places[key % 20] += place
    assert torch.allclose(places / 2000, torch.full((20,), 9.5), atol=0.6)  # four and a half standard errors


def test_examples_of_similar_length_are_grouped():
    sampler = make(96, 8, 1, 1, strategy="group_by_length")
    for step in steps(sampler, 8, 1, 1)[1:]:
        lengths = [sampler.lengths(0)[key % 96] for key in step]
        assert max(lengths) - min(lengths) <= 6
    assert sampler.lengths(0)[next(iter(sampler)) % 96] == max(sampler.lengths(0))  # out of memory soon, or never


def test_each_step_and_process_has_its_own_dropout():
    seeds = {dropout_seed(seed, step, process) for seed in range(3) for step in range(50) for process in range(4)}
    assert len(seeds) == 600
    for seed in seeds:
        torch.manual_seed(seed)  # raises for what is no seed
