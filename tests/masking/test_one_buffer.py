"""A batch in one buffer is the same batch, and remains one buffer on its way from a worker to the model."""

from __future__ import annotations

import pickle

import pytest
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.masking.one_buffer import OneBuffer


def batch():
    ids = torch.arange(7).unsqueeze(0)
    odd = torch.tensor([1, 2, 3], dtype=torch.int32)
    return {"input_ids": ids, "odd": odd, "flags": torch.tensor([True])} | joined_row(torch.tensor([3, 4]))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value)
        else:
            assert found[name] == value


def storages(found):
    return {value.untyped_storage().data_ptr() for value in found.values() if isinstance(value, torch.Tensor)}


def from_worker(found):
    (received,) = DataLoader([0], batch_size=1, num_workers=1, collate_fn=lambda rows: found)
    return received


@pytest.mark.parametrize(
    "move",
    [lambda found: found, lambda found: found.to("cpu"), lambda found: send_to_device(found, "cpu"), from_worker,
     lambda found: pickle.loads(pickle.dumps(found))],
    ids=["made", "moved", "by accelerate", "from a worker", "pickled"],
)  # fmt: skip
def test_the_batch_is_the_same_and_in_one_buffer(move):
    found = move(OneBuffer.of(batch()))
    assert isinstance(found, OneBuffer)
    assert_same(found, batch())
    assert len(storages(found)) == 1
    assert found["cu_seq_lens_q"] is found["cu_seq_lens_k"]  # one tensor under two names


def test_a_changed_batch_is_moved_as_it_is():
    found = OneBuffer.of(batch())
    del found["odd"]
    found["max_length_q"] = 9
    assert_same(
        found.to("cpu"), {name: value for name, value in batch().items() if name != "odd"} | {"max_length_q": 9}
    )
    plain = OneBuffer({"input_ids": torch.ones(2), "n": 3})
    assert_same(plain.to("cpu"), plain)
    assert_same(pickle.loads(pickle.dumps(plain)), plain)


@pytest.mark.parametrize("pinned", [False, True])
def test_only_pinned_memory_is_copied_without_waiting_unless_that_is_asked_for(pinned):
    class Memory:
        def is_pinned(self):
            return pinned

        def to(self, device, non_blocking):
            asked.append(non_blocking)
            return buffer

    found, asked = OneBuffer.of(batch()), []
    buffer, found._buffer = found._buffer, Memory()
    assert_same(found.to("cuda"), batch())
    found.to("cuda", non_blocking=True)
    assert asked == [pinned, True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_pinned_and_copied_at_once():
    pinned = OneBuffer.of(batch()).pin_memory()
    assert all(value.is_pinned() for value in pinned.values() if isinstance(value, torch.Tensor))
    there = send_to_device(pinned, torch.device("cuda"), non_blocking=True)
    assert len(storages(there)) == 1
    assert_same(there.to("cpu"), batch())
