"""The first failure is told to all processes, each of which knows whether it prints it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from mlm_recipes.training.distributed import failing_together, signs_of_life
from mlm_recipes.training.distributed.failing_together import Failure, Fellows, caused_elsewhere, lost, own_failure
from mlm_recipes.training.distributed.meeting import Meeting, Process, _under

EVERYONE = (Process(0, "red", "0", 0), Process(1, "red", "0", 1), Process(2, "blue", "1", 0))
BROKEN = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
LATE = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 20000ms for recv operation")


@pytest.fixture
def fellows(monkeypatch):
    for name, value in {"PERIOD": 0.02, "SILENCE": 0.3}.items():
        monkeypatch.setattr(signs_of_life, name, value)
    monkeypatch.setattr(failing_together, "_GRACE", 0.1)
    monkeypatch.setattr(failing_together, "_SAME", 0.3)
    monkeypatch.setattr(failing_together, "_LAST", 0.1)
    monkeypatch.setattr(failing_together, "_fellows", [])
    monkeypatch.setattr(failing_together, "_end", [])
    monkeypatch.setenv("WORLD_SIZE", "3")
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = ("127.0.0.1", server.port)
    found = [Fellows(Meeting(address, _under(server, 1), 1, EVERYONE, me), 60.0) for me in EVERYONE]
    yield found
    for each in found:
        each.signs._stop.set()


def this_is(fellow, monkeypatch):
    monkeypatch.setattr(failing_together, "_fellows", [fellow])
    monkeypatch.setenv("RANK", str(fellow.meeting.me.rank))


def freeze(fellow):
    fellow.signs._stop.set()
    fellow.signs._thread.join()


def test_the_first_failure_is_everyones(fellows):
    first, second = Failure(2, "no disk", 2), Failure(0, "no memory", 1)
    assert fellows[2].told() is None
    assert fellows[2].tell(first) == first
    assert fellows[0].tell(second) == first
    assert fellows[1].told() == first


def test_an_error_of_one_process_names_it(fellows, monkeypatch):
    this_is(fellows[2], monkeypatch)
    assert own_failure("notes.txt: no such file", 2) == ("process 2 on blue: notes.txt: no such file", 2)
    assert fellows[0].told() == Failure(2, "process 2 on blue: notes.txt: no such file", 2)


def test_an_error_that_all_have_is_printed_once_and_as_it_is(fellows):
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda each: each.all_have("corpus: received nothing"), fellows)] == [True] * 3


def test_errors_that_differ_are_each_processs_own(fellows):
    with ThreadPoolExecutor(3) as pool:
        said = pool.map(lambda each: each.all_have(f"in {each.meeting.me}"), fellows)
        assert [*said] == [False] * 3


@pytest.mark.parametrize(
    ("failure", "printing"),
    [
        (Failure(1, "told", 2), [1, 2]),  # rank 1 prints its own error; of the other launcher, rank 2 prints it
        (Failure(2, "told", 2), [0, 2]),
        (Failure(1, "lost", 2, lost=True), [0, 1, 2]),  # rank 1 if it lives after all
        (Failure(0, "lost", 2, lost=True), [0, 1, 2]),  # the next one speaks in the place of the first
        (Failure(2, "lost", 2, lost=True), [0, 2]),
    ],
)
def test_one_process_under_each_launcher_prints_it(fellows, failure, printing):
    assert [each.meeting.me.rank for each in fellows if each.speaks_of(failure)] == printing


def test_a_broken_connection_is_explained_by_what_was_told(fellows, monkeypatch):
    this_is(fellows[0], monkeypatch)
    fellows[2].tell(Failure(2, "process 2 on blue: no disk", 2))
    assert caused_elsewhere(BROKEN) == ("process 2 on blue: no disk", 2)


@pytest.mark.slow
def test_a_broken_connection_is_explained_by_who_is_silent(fellows, monkeypatch):
    this_is(fellows[0], monkeypatch)
    freeze(fellows[2])
    try:
        raise OSError("save: the checkpoint could not be written") from BROKEN
    except OSError as error:
        told, code = caused_elsewhere(error)
    assert told.startswith("processes: no answer from process 2 on blue: no sign of life for 5 s. Accepted: ")
    assert code == 2
    assert fellows[1].told() == lost([EVERYONE[2]], 5.0)


def test_a_wait_for_a_living_process_names_the_option(fellows, monkeypatch):
    this_is(fellows[0], monkeypatch)
    told, code = caused_elsewhere(LATE)
    assert "process 0 on red waited 60 s (ddp_timeout) for another one, which gives signs of life" in told
    assert code == 2


@pytest.mark.parametrize("error", [BROKEN, ValueError("mine")])
def test_an_error_without_another_cause_is_our_own(fellows, monkeypatch, error):
    this_is(fellows[0], monkeypatch)
    assert caused_elsewhere(error) is None
    assert fellows[0].ending.acquire(blocking=False)


def test_another_processs_failure_ends_this_one(fellows, monkeypatch):
    import threading

    ended, arrived = [], threading.Event()
    monkeypatch.setattr(
        failing_together, "_end", [lambda message, code, leave: (ended.append((message, code)), arrived.set())]
    )
    freeze(fellows[0])
    freeze(fellows[1])
    fellows[0].tell(Failure(0, "process 0 on red: no disk", 2))
    assert arrived.wait(20)
    assert ended[0] == ("process 0 on red: no disk", 2)


def test_a_process_that_ends_by_itself_is_not_ended(fellows, monkeypatch):
    ended = []
    for each in fellows:
        each.ending.acquire()
    monkeypatch.setattr(failing_together, "_end", [lambda *told: ended.append(told)])
    fellows[0].tell(Failure(0, "no disk", 2))
    fellows[1].signs._stop.wait(0.5)
    assert ended == []


def test_who_works_alone_tells_nobody(fellows, monkeypatch):
    this_is(fellows[1], monkeypatch)
    failing_together.go_alone()
    assert own_failure("the pages", 3) == ("process 1 on red: the pages", 3)
    assert fellows[0].told() is None


def test_a_silent_process_is_given_up_after_ddp_timeout(fellows):
    import time

    watching = fellows[0]
    freeze(watching)
    freeze(fellows[2])
    watching.seconds = 0.2
    deadline, found = time.monotonic() + 10, None
    while found is None and time.monotonic() < deadline:
        time.sleep(0.05)
        found = watching._given_up()
    assert found == lost([EVERYONE[2]], 0.2)
