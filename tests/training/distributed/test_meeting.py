"""The processes of each start meet, under a number that only they have."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from mlm_recipes.training.distributed import meeting
from mlm_recipes.training.distributed.meeting import NotMetError, Process, started_together

PATIENCE = 20.0


@pytest.fixture
def server():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def start(server, size, ranks=None):
    """Let processes of one start meet, each with its own connection; return what each of them finds, in a future."""
    pool = ThreadPoolExecutor(size)

    def come(rank):
        store = meeting._connected("127.0.0.1", server.port, False, PATIENCE)
        card = [f"host{rank}", str(rank), "0", f"{rank}-{threading.get_ident()}-{id(store)}"]
        if rank == 0:
            return meeting._gather(store, card, size, PATIENCE)
        return meeting._be_seen(store, card, rank, PATIENCE)

    return {rank: pool.submit(come, rank) for rank in (range(size) if ranks is None else ranks)}


def results(found):
    return [each.result(timeout=PATIENCE) for each in found.values()]


def test_all_learn_who_is_there(server):
    found = results(start(server, 3))
    assert found[0] == found[1] == found[2]
    number, cards = found[0]
    assert number == 1
    assert [host for host, *_ in cards] == ["host0", "host1", "host2"]


def test_a_restarted_process_waits_for_the_others_of_its_own_start(server):
    """torchrun keeps its store: the new process finds the number and the cards of the start before."""
    first = results(start(server, 2))
    early = start(server, 2, [1])
    assert not early[1].done()
    late = start(server, 2, [0])
    second = results(early | late)
    assert second[0] == second[1]
    assert second[0][0] == first[0][0] + 1
    assert second[0][1][1] != first[0][1][1]


def test_fewer_processes_than_before_meet(server):
    results(start(server, 3))
    assert results(start(server, 1))[0][0] == 2


def test_the_main_process_names_who_did_not_come(server):
    store = meeting._connected("127.0.0.1", server.port, False, PATIENCE)
    with pytest.raises(NotMetError, match=r"of 3, those with rank 1, 2 did not come within 0.1 s \(ddp_timeout\)"):
        meeting._gather(store, ["host0", "0", "0", "a"], 3, 0.1)


def test_another_process_says_that_the_main_one_did_not_come(server):
    store = meeting._connected("127.0.0.1", server.port, False, PATIENCE)
    with pytest.raises(NotMetError, match=r"process 1 on blue waited 0\.1 s"):
        meeting._be_seen(store, ["blue", "1", "0", "a"], 1, 0.1)


def test_a_store_that_is_not_there_is_one_sentence(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotMetError, match=r"the store of this run at 127.0.0.1:9 does not answer .* start all of them"):
        meeting.meet.__wrapped__(0.2)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}, True),  # it may be started again, with others
    ],
)
def test_who_is_started_with_others(more, expected):
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert started_together(environment | more) is expected


def test_a_process_is_named_with_its_machine():
    assert str(Process(3, "red", "0", 1)) == "process 3 on red"
