"""A text that is never read whole: held out by a rule, shuffled in blocks, as long as a run takes.

The text is cut into blocks of so many paragraphs. A block is tokenized, and its rows are put in an order that is a
function of the seed, the epoch and their numbers: none is carried over to the next, so none can be lost, and a run that
is resumed has only to find its block again. Where the text ends, its next epoch begins. The main process alone reads,
and deals each process its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from .dataset import fingerprint, to_rows
from .main_process import dealt_by_main
from .masking import Bools, sequence_keys
from .sampler import order_keys
from .text_cache import digests

#: How many of its first paragraphs stand for a stream: to learn a tokenizer from, to count words in.
SAMPLE = 10_000

#: What of a row only this library's collator knows.
_OURS = ("epoch", "example_id")

Row = dict[str, Any]
T = TypeVar("T")


class HeldOut:
    """Which paragraphs of a stream are not trained on: a rule on the text alone, so that no duplicate slips through.

    Args:
        fraction: share of the distinct paragraphs, in [0, 1).
        seed: which.
        texts: paragraphs that are held out besides.

    Called with a list of paragraphs it returns True for each that is held out, shape `(paragraphs,)`. Paragraphs that
    are equal but for case and white space are held out together.

    >>> HeldOut(texts=["To be"])(["or not", "to  be"]).tolist()
    [False, True]
    """

    def __init__(self, fraction: float = 0.0, seed: int = 0, texts: Iterable[str] = ()) -> None:
        self.fraction, self.seed, self.texts = fraction, seed, np.unique(digests(texts))

    def __call__(self, paragraphs: Iterable[str]) -> Bools:
        """Tell of each paragraph whether it is held out."""
        found = digests(paragraphs)
        # As load_corpus ranks them: the lowest keys are held out.
        return (sequence_keys(self.seed, 0, found) < np.uint64(self.fraction * 2.0**64)) | np.isin(found, self.texts)

    def choose(self, paragraphs: Iterable[str], at_most: int = 2_000) -> list[str]:
        """Return the first paragraphs that are held out, and read no further; the others are not measured either.

        Raises: ValueError where there are none.
        """
        parts = _parts(paragraphs, 1000)
        found = itertools.chain.from_iterable(itertools.compress(part, self(part)) for part in parts)
        chosen = list(itertools.islice(found, at_most))
        if not chosen:
            raise ValueError(
                f"validation_fraction: with {self.fraction} no paragraph of the stream is held out, so there is "
                "nothing to measure on. Accepted: a text and a fraction that give at least one. Raise "
                "--validation_fraction, name a --validation_corpus, or leave --streaming out for a text so small."
            )
        return chosen


@dataclass(frozen=True)
class TextStream:
    """A text for MLMTrainer's `train_dataset` that is read as it is needed, with `MLMConfig(streaming=True)`.

    Args:
        read: opens the text and yields its paragraphs, in the same order each time; called once an epoch, in the main
            process alone.
        held_out: which paragraphs are left out; by default none.

    >>> stream = TextStream(lambda: iter(["to be", "or not", "to be"]), HeldOut(texts=["or not"]))
    >>> stream.first(10)
    ['to be', 'to be']
    """

    read: Callable[[], Iterable[str]]
    held_out: HeldOut = field(default_factory=HeldOut)

    def first(self, number: int = SAMPLE) -> list[str]:
        """Return the first paragraphs that are trained on."""
        parts = _parts(self.read(), 1000)
        return list(itertools.islice(itertools.chain.from_iterable(map(self.kept, parts)), number))

    def kept(self, paragraphs: Sequence[str]) -> list[str]:
        """Return those of `paragraphs` that are trained on."""
        return list(itertools.compress(paragraphs, ~self.held_out(paragraphs)))

    def facts(self, make_rows: Callable[[list[str]], list[Row]]) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one it goes on with: how the text begins, as rows."""
        held_out = self.held_out
        rule = [held_out.fraction, held_out.seed, fingerprint([{"input_ids": held_out.texts}])]
        return {
            "training text": f"a stream that begins with {fingerprint(make_rows(self.first(1000)) or [[]])}",
            "held out": rule,
        }


class Place(NamedTuple):
    """Where a block begins: its epoch, how many texts and rows of that epoch lie before it, and of the run, rows.

    A row's number in its epoch is its `example_id`, its number in the run its position.
    """

    epoch: int = 0
    texts: int = 0
    rows: int = 0
    position: int = 0


START = Place()


def blocks(
    stream: TextStream,
    make_rows: Callable[[list[str]], list[Row]],
    *,
    size: int,
    seed: int,
    shuffle: bool = True,
    start: Place = START,
) -> Iterator[tuple[Place, list[Row]]]:
    """Yield each block's place and its rows in the order they are trained on, epoch after epoch, without end.

    Args:
        stream: the text.
        make_rows: makes rows with `input_ids` of a block's paragraphs; how many is up to it.
        size: paragraphs of a block, held-out ones included.
        seed: of the order.
        shuffle: whether there is one besides the text's own.
        start: where to begin. The paragraphs before it are read and nothing else.

    Each row has an `example_id`, its number among the epoch's rows in the order of the text, and its `epoch`. A block
    as large as the text makes `EpochSampler`'s order of its rows.

    Raises: ValueError where all is held out, or the text ends before `start`.

    >>> stream, make_rows = TextStream(lambda: "abcde"), lambda texts: [{"input_ids": [ord(text)]} for text in texts]
    >>> for place, rows in itertools.islice(blocks(stream, make_rows, size=3, seed=0), 3):
    ...     print(place.epoch, place.texts, [row["example_id"] for row in rows])
    0 0 [0, 1, 2]
    0 3 [3, 4]
    1 0 [0, 2, 1]
    """
    place = start
    while True:
        texts = iter(stream.read())
        passed = sum(1 for _ in itertools.islice(texts, place.texts))
        if passed < place.texts:
            raise ValueError(
                f"corpus: the stream ends after {passed:,} paragraphs, and the checkpoint was made beyond "
                f"{place.texts:,}. Accepted: the text that the run was begun with. Put it back, or start a new run."
            )
        for part in _parts(texts, size):
            kept = stream.kept(part)
            rows = make_rows(kept) if kept else []
            ids = np.arange(place.rows, place.rows + len(rows))
            order = np.argsort(order_keys(seed, place.epoch, ids), kind="stable") if shuffle else range(len(rows))
            yield place, [{**rows[i], "example_id": int(ids[i]), "epoch": place.epoch} for i in order]
            place = Place(place.epoch, place.texts + len(part), place.rows + len(rows), place.position + len(rows))
        if not place.rows:
            raise ValueError(
                f"corpus: of the stream's {place.texts:,} paragraphs none is left to train on. Accepted: a text with "
                "at least one that is not held out. Check the corpus, or lower --validation_fraction."
            )
        place = Place(place.epoch + 1, position=place.position)


class StreamedRows(torch.utils.data.Dataset[Any]):
    """The rows of a run by their position, from 0 on, taken in order; each batch is dealt out by the main process.

    Positions, not an iterator: so that skipping the steps a resumed run has behind it is a number, and reads nothing.

    Args:
        open_at: `blocks` from a place on.
        length: rows of the whole run.
        processes: how many take a batch in turn, in the order of their ranks.
        known: a place from which positions beyond it can be reached.
        plain: leave out of each row what only this library's collator knows.

    >>> stream, make_rows = TextStream(lambda: "abcde"), lambda texts: [{"input_ids": [ord(text)]} for text in texts]
    >>> rows = StreamedRows(lambda place: blocks(stream, make_rows, size=3, seed=0, start=place), length=8, processes=1)
    >>> [(row["epoch"], row["example_id"]) for row in rows.__getitems__([4, 5, 6])]
    [(0, 4), (1, 0), (1, 2)]
    """

    def __init__(
        self,
        open_at: Callable[[Place], Iterator[tuple[Place, list[Row]]]],
        length: int,
        processes: int,
        known: Place = START,
        plain: bool = False,
    ) -> None:
        self._open_at, self._length, self._processes, self._plain = open_at, length, processes, plain
        self._places = [START, known]  # every process knows them: any may have to save one
        self._opened: list[Place] = []  # of those, what the others have not been told yet
        self._rows: Iterator[Row] = iter(())
        self._next = -1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Row:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Row]:
        """Return this process's rows of a batch; all processes must ask for theirs."""
        opened, rows = dealt_by_main(lambda: self._deal(positions[0], len(positions)))
        self._places += opened
        return rows

    def place(self, position: int) -> Place:
        """Return where the last block began that is known to begin at or before `position`."""
        return max((place for place in self._places if place.position <= position), key=lambda place: place.position)

    def _deal(self, position: int, batch: int) -> list[tuple[list[Place], list[Row]]]:
        """Return for each process the blocks that were opened and its rows; the main process's begin at `position`."""
        if position != self._next:
            place = self.place(position)
            passed = position - place.position
            self._rows = itertools.islice(self._from(place), passed, None)
        rows = list(itertools.islice(self._rows, batch * self._processes))
        self._next = position + len(rows)
        opened, self._opened = self._opened, []
        return [(opened, rows[first : first + batch]) for first in range(0, len(rows), batch)]

    def _from(self, start: Place) -> Iterator[Row]:
        for place, rows in self._open_at(start):
            self._opened.append(place)
            for row in rows:
                yield {name: row[name].tolist() for name in row if name not in _OURS} if self._plain else row


class StreamState(TrainerCallback, ExportableState):
    """Keep with each checkpoint where its stream stands: the block of the next step's first row."""

    def __init__(self) -> None:
        self.rows: StreamedRows | None = None
        self.rows_a_step = 0
        self._step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step that training begins at."""
        self._step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the step that is done."""
        self._step = state.global_step

    @property
    def place(self) -> Place:
        """Where the block begins that holds the next step's first row."""
        return self.rows.place(self._step * self.rows_a_step) if self.rows is not None else START

    def state(self) -> dict[str, Any]:
        """Return what is saved."""
        return {"args": {}, "attributes": {"place": self.place._asdict()}}

    @classmethod
    def saved_in(cls, checkpoint: Path) -> Place:
        """Return the place that a checkpoint was saved with."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return Place(**state.stateful_callbacks[cls.__name__]["attributes"]["place"])


def rows_of(texts: list[str], tokenizer: Any, max_length: int, **how: Any) -> list[Row]:
    """Return the rows of some paragraphs, as `mlm_recipes.dataset.to_rows` makes them; nothing is written to disk.

    Each has `input_ids` and `special_tokens_mask`, arrays of int32 and int8. `how` is what `to_rows` takes besides.

    >>> from mlm_recipes import train_tokenizer
    >>> rows_of(["to be"], train_tokenizer(["to be"] * 2, vocab_size=200), max_length=8)[0]["input_ids"][::3]
    array([101, 102], dtype=int32)
    """
    found = to_rows(Dataset.from_dict({"text": texts}), tokenizer, max_length, **how)
    table = found.select_columns(["input_ids", "special_tokens_mask"]).with_format("arrow")[:]
    columns = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        ends = np.cumsum(np.asarray(column.value_lengths()))
        columns.append(np.split(np.asarray(column.flatten()), ends[:-1]))
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter.

    >>> list(_parts("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(items)
    while part := list(itertools.islice(remaining, size)):
        yield part
