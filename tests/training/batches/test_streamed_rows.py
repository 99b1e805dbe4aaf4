"""The next block of a stream is prepared while the one before it is in use."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from mlm_recipes import TextStream
from mlm_recipes.data.streams import blocks
from mlm_recipes.training.batches.rank_loads import RankLoads
from mlm_recipes.training.batches.streamed_rows import StreamedRows, one_ahead


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_exactly_one_is_made_ahead():
    made = []

    def things():
        for number in range(5):
            made.append(number)
            yield number

    ahead = one_ahead(things())
    assert next(ahead) == 0
    until(lambda: made == [0, 1])
    time.sleep(0.05)
    assert made == [0, 1]
    assert next(ahead) == 1
    until(lambda: made == [0, 1, 2])
    assert list(ahead) == [2, 3, 4]


def test_an_error_is_raised_where_it_happened():
    def things():
        yield 1
        raise ValueError("the text ends here")

    ahead = one_ahead(things())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the text ends here"):
        next(ahead)


def test_the_thread_ends_with_its_reader():
    before = threading.active_count()
    ahead = one_ahead(iter(range(100)))
    next(ahead)
    ahead.close()
    until(lambda: threading.active_count() == before)


def test_what_is_never_reached_is_never_reported():
    def things():
        yield 1
        raise ValueError("not needed")

    ahead = one_ahead(things())
    assert next(ahead) == 1
    ahead.close()


ENDS = """
import time, torch
from mlm_recipes.training.batches.streamed_rows import one_ahead

def things():
    yield "in use"
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        torch.ones(9).sum()
    print("made")
    yield "ahead"

ahead = one_ahead(things())
next(ahead)
time.sleep(0.1)
if {closed}:
    ahead.close()
"""


@pytest.mark.parametrize("closed", [False, True])
def test_a_script_that_ends_while_a_block_is_made_is_not_aborted(closed):
    script = ENDS.format(closed=closed)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr


@pytest.mark.parametrize(
    ("by_length", "dealt", "busiest"),
    [
        (True, [[[30, 1, 1], [2, 2, 2]], [[1, 1, 2], [20, 2, 2]]], 36),
        (False, [[[30, 1, 1], [2, 2, 2]], [[20, 1, 1], [2, 2, 2]]], 54),
    ],
    ids=["by length", "in order"],
)
def test_a_stream_is_dealt_by_length_and_by_what_the_step_has_dealt_before(by_length, dealt, busiest):
    """Two micro-batches of three rows for each of two processes in a step; the second's long row is the other's."""
    lengths = [30, 1, 1, 2, 2, 2, 20, 1, 1, 2, 2, 2]
    stream, loads = TextStream(lambda: map(str, lengths)), RankLoads(2, by_length)

    def make_rows(texts):
        return [{"input_ids": [7] * int(text)} for text in texts]

    rows = StreamedRows(
        lambda place: blocks(stream, make_rows, size=20, seed=0, shuffle=False, start=place),
        length=24, processes=2, rows_a_step=12, loads=loads,
    )  # fmt: skip
    found = [[[len(row["input_ids"]) for row in mine] for _, mine in rows._deal(at, 3)] for at in (0, 6, 12, 18)]
    assert found == dealt + dealt, "the text begins again, and so does the step"
    mean = sum(lengths) / 2
    assert loads.facts(range(2)) == {"by_length": by_length, "max_to_mean": busiest / mean, "in_order": 54 / mean}
