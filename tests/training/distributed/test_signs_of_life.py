"""A process that gives no sign of life is named, and one that has left is not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import torch.distributed as dist

from mlm_recipes.training.distributed import signs_of_life
from mlm_recipes.training.distributed.meeting import Meeting, Process, _under
from mlm_recipes.training.distributed.signs_of_life import SignsOfLife

EVERYONE = (Process(0, "red", "0", 0), Process(1, "red", "0", 1), Process(2, "blue", "1", 0))


@pytest.fixture
def processes(monkeypatch):
    """Three processes of one meeting, in threads, that give signs much more often."""
    monkeypatch.setattr(signs_of_life, "PERIOD", 0.02)
    monkeypatch.setattr(signs_of_life, "SILENCE", 0.5)
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = ("127.0.0.1", server.port)
    found = [SignsOfLife(Meeting(address, _under(server, 1), 1, EVERYONE, me), lambda: None) for me in EVERYONE]
    yield found
    for each in found:
        each._stop.set()


def freeze(process):
    process._stop.set()
    process._thread.join()


def test_the_silent_one_is_named(processes):
    for each in processes:
        each.begin()
    freeze(processes[2])
    assert processes[0].look_round(lambda: None) == [EVERYONE[2]]


def test_one_that_has_left_is_not_silent(processes):
    for each in processes:
        each.begin()
    processes[2].end()
    assert processes[0].look_round(lambda: None) == []
    assert processes[0].have_left([EVERYONE[2]])
    assert not processes[0].have_left(EVERYONE)


def test_looking_ends_when_enough_is_known(processes):
    began = time.monotonic()
    assert processes[0].look_round(lambda: "a failure that was told") == [EVERYONE[1], EVERYONE[2]]
    assert time.monotonic() - began < signs_of_life.SILENCE


def test_silence_is_counted_from_the_last_sign(processes):
    watching, frozen, alive = processes
    alive.begin()
    assert watching.silent_for(0.2, EVERYONE[1:]) == []
    found, deadline = [], time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = watching.silent_for(0.2, EVERYONE[1:])
    assert found == [EVERYONE[1]]
    frozen.begin()
    frozen.end()
    assert watching.silent_for(-1.0, EVERYONE[1:2]) == []  # for however short a time


def test_a_process_that_was_stopped_itself_accuses_nobody(processes):
    watching = processes[0]
    watching.silent_for(0.2, EVERYONE[1:])
    watching._looked -= 60
    watching._changed = {rank: (sign, since - 60) for rank, (sign, since) in watching._changed.items()}
    assert watching.silent_for(0.2, EVERYONE[1:]) == []


def test_a_store_that_is_gone_is_no_error(processes):
    def fail():
        raise dist.DistNetworkError("Broken pipe")

    assert processes[0].asked(fail) is None
    assert processes[0].asked(lambda: 3) == 3


def test_a_store_that_does_not_answer_is_not_waited_for(processes, monkeypatch):
    """Over a cut link a question has no end."""
    monkeypatch.setattr(signs_of_life, "_ANSWER", 0.2)
    watching, healed = processes[0], threading.Event()
    assert watching.silent_for(0.5, EVERYONE[1:]) == []
    assert watching.answered()
    began = time.monotonic()
    assert watching.asked(healed.wait) is None
    assert watching.asked(lambda: 3) is None
    assert not watching.answered()
    assert watching.look_round(lambda: None) is None
    assert time.monotonic() - began < 2
    found, deadline = [], time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = watching.silent_for(0.5, EVERYONE[1:])
    assert found == [*EVERYONE[1:]]
    healed.set()
    watching._late.join()
    assert watching.asked(lambda: 3) == 3
    assert watching.answered()


def test_signs_go_on_when_the_store_answers_again(processes, monkeypatch):
    monkeypatch.setattr(signs_of_life, "_ANSWER", 0.2)
    giving, healed = processes[1], threading.Event()
    giving.asked(healed.wait)
    giving.begin()
    time.sleep(0.1)
    assert processes[0]._signs([EVERYONE[1]]) == ["0"]
    healed.set()
    deadline = time.monotonic() + 10
    while processes[0]._signs([EVERYONE[1]]) == ["0"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


ENDS = """
import atexit, threading
import torch.distributed as dist
from mlm_recipes.training.distributed.meeting import Meeting, Process, _under
from mlm_recipes.training.distributed.signs_of_life import SignsOfLife

atexit.register(lambda: print([each.name for each in threading.enumerate()]))  # the last one to be called
server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
me = Process(0, "red", "0", 0)
SignsOfLife(Meeting(("127.0.0.1", server.port), _under(server, 1), 1, (me,), me), lambda: None).begin()
"""


def test_signs_end_before_the_interpreter():
    """A thread that leaves torch's code while the interpreter ends aborts the process, now and then."""
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "['MainThread']\n"), done.stderr
