"""The next block of a stream is prepared while the one before it is in use."""

from __future__ import annotations

import threading
import time

import pytest

from mlm_recipes.training.batches.streamed_rows import one_ahead


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
