"""The rows of a streamed text, distributed to the processes step by step, and each checkpoint's position in it."""

from __future__ import annotations

import atexit
import itertools
import queue
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ...data.rows_of_epoch import only_columns
from ...data.streams import START, Place, TokenRow
from ..distributed.processes import dealt_by_main
from .dealing import deal, in_order
from .rank_loads import RankLoads

T = TypeVar("T")

#: Seconds that the interpreter waits, when it ends, for a block that is being made.
_AT_EXIT = 10.0


class StreamedRows(torch.utils.data.Dataset[Any]):
    """The rows of a run by position, from 0, taken in order; the main process distributes each batch.

    Rows have positions so that a resumed run can skip the steps already done without reading them.

    Args:
        open_at: returns `blocks` from a place on.
        length: the number of rows in the whole run.
        processes: the number of processes, which take batches in turn, in the order of their ranks.
        known: a place to start from, for positions after it.
        plain: give rows only the columns of these names, as lists, for a collator that is not this library's.
        rows_a_step: the rows of an optimizer step, over all its micro-batches and processes.
        loads: records how evenly each step's tokens are dealt, and says whether they are dealt by length; a stream's
            rows are dealt so micro-batch by micro-batch, since no more of them are in memory.

    >>> from mlm_recipes.data.streams import TextStream, blocks
    >>> stream, make_rows = TextStream(lambda: "abcde"), lambda texts: [{"input_ids": [ord(text)]} for text in texts]
    >>> rows = StreamedRows(lambda place: blocks(stream, make_rows, size=3, seed=0, start=place), length=8, processes=1)
    >>> [(row["epoch"], row["example_id"]) for row in rows.__getitems__([4, 5, 6])]
    [(0, 4), (1, 0), (1, 2)]
    """

    def __init__(
        self,
        open_at: Callable[[Place], Iterator[tuple[Place, list[TokenRow]]]],
        length: int,
        processes: int,
        known: Place = START,
        plain: Container[str] | None = None,
        rows_a_step: int = 1,
        loads: RankLoads | None = None,
    ) -> None:
        self._open_at, self._length, self._processes, self._plain = open_at, length, processes, plain
        self._rows_a_step, self.loads = rows_a_step, loads
        self._places = [START, known]  # known to every process: any may have to save one
        self._opened: list[Place] = []  # those that the other processes do not know yet
        self._rows: Iterator[TokenRow] = iter(())
        self._next = -1

    def __len__(self) -> int:
        return self._length

    def step_of(self, position: int) -> int:
        """Return which step, from 0, reads the row at a position."""
        return position // self._rows_a_step

    def __getitem__(self, position: int) -> TokenRow:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[TokenRow]:
        """Return this process's rows of a batch; all processes must call this."""
        opened, rows = dealt_by_main(lambda: self._deal(positions[0], len(positions)))
        self._places += opened
        return rows

    def place(self, position: int) -> Place:
        """Return the start of the last known block that begins at or before `position`."""
        return max((place for place in self._places if place.position <= position), key=lambda place: place.position)

    def _deal(self, position: int, batch: int) -> list[tuple[list[Place], list[TokenRow]]]:
        """Return for each process the newly opened blocks and its rows; the main process's rows begin at `position`."""
        if position != self._next:
            place = self.place(position)
            passed = position - place.position
            self._rows = itertools.islice(self._from(place), passed, None)
        rows = list(itertools.islice(self._rows, batch * self._processes))
        self._next = position + len(rows)
        opened, self._opened = self._opened, []
        parts = in_order(len(rows), self._processes)
        if self.loads is not None:
            lengths, (step, within) = [len(row["input_ids"]) for row in rows], divmod(position, self._rows_a_step)
            before = self.loads.of_last() if within else None
            dealt = deal(lengths, self._processes, batch, before) if self.loads.by_length else parts
            now, plain = ([sum(lengths[place] for place in part) for part in each] for each in (dealt, parts))
            self.loads.add(step, now, plain, anew=not within)
            parts = dealt
        return [(opened, [rows[place] for place in part]) for part in parts]

    def _from(self, start: Place) -> Iterator[TokenRow]:
        for place, rows in one_ahead(self._open_at(start)):
            self._opened.append(place)
            for row in rows:
                yield row if self._plain is None else _as_lists(only_columns(row, self._plain))


def _as_lists(row: TokenRow) -> TokenRow:
    return {name: np.asarray(value).tolist() for name, value in row.items()}


def one_ahead(things: Iterator[T]) -> Iterator[T]:
    """Yield `things`, each taken from the iterator in a thread while the one before it is in use.

    Opening a block reads and tokenizes its text, which takes seconds if it is large; training goes on meanwhile. An
    error is raised where its thing would have been yielded.

    >>> list(one_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    found: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=1)
    wanted = threading.Semaphore(1)  # one is in use, one is made ahead; no third
    done = False

    def take() -> None:
        while True:
            wanted.acquire()
            if done:
                break
            try:
                found.put((next(things), None))
            except BaseException as error:  # raised again where it is waited for
                found.put((None, error))
                break
        atexit.unregister(end)

    def end() -> None:
        nonlocal done
        done = True
        wanted.release()
        thread.join(_AT_EXIT)

    # A daemon: it may be waiting for standard input when the run ends. Otherwise it is waited for, since a thread that
    # leaves torch's code while the interpreter ends aborts the process (Python 3.11 with torch 2.13).
    thread = threading.Thread(target=take, daemon=True, name="next block of the stream")
    atexit.register(end)
    thread.start()
    try:
        while True:
            thing, error = found.get()
            wanted.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield cast(T, thing)
    finally:
        done = True
        wanted.release()


class StreamState(TrainerCallback, ExportableState):
    """Record in each checkpoint the position of its stream: the block of the next step's first row."""

    def __init__(self) -> None:
        self.rows: StreamedRows | None = None
        self.rows_a_step = 0
        self._step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the step that training begins at."""
        self._step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the step that is done."""
        self._step = state.global_step

    @property
    def place(self) -> Place:
        """The start of the block that holds the next step's first row."""
        return self.rows.place(self._step * self.rows_a_step) if self.rows is not None else START

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"args": {}, "attributes": {"place": self.place._asdict()}}

    @classmethod
    def saved_in(cls, checkpoint: Path) -> Place:
        """Return the place that a checkpoint was saved with."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return Place(**state.stateful_callbacks[cls.__name__]["attributes"]["place"])
