"""Reads a text while training: paragraphs are held out by a rule, and rows are shuffled in blocks.

The text is cut into blocks of a fixed number of paragraphs. A block is tokenized, and the order of its rows is a
function of the seed, the epoch and the rows' numbers. No row is carried over to the next block, so none can be lost,
and a resumed run only has to find its block again. At the end of the text the next epoch begins. Only the main process
reads, and it sends each process its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from datasets import Dataset

from ..masking.random_keys import Bools, order_keys, sequence_keys
from .all_ids import fingerprint
from .rows import has_column, to_rows
from .text_cache import digests
from .text_checks import only_text

#: The number of paragraphs at the beginning of a stream that are its sample, for tokenizer training and word counts.
SAMPLE = 10_000


TokenRow = dict[str, Any]
T = TypeVar("T")


class HeldOut:
    """A rule that decides which paragraphs of a stream are held out; it depends only on their text.

    Args:
        fraction: share of the distinct paragraphs to hold out, in [0, 1).
        seed: decides which.
        texts: additional paragraphs to hold out.

    Called with a list of paragraphs, it returns True for each that is held out, shape `(paragraphs,)`. Paragraphs that
    are equal, ignoring case and white space, are either all held out or none of them.

    >>> HeldOut(texts=["To be"])(["or not", "to  be"]).tolist()
    [False, True]
    """

    def __init__(self, fraction: float = 0.0, seed: int = 0, texts: Iterable[str] = ()) -> None:
        self.fraction, self.seed, self.texts = fraction, seed, np.unique(digests(texts))

    def __call__(self, paragraphs: Iterable[str]) -> Bools:
        """Tell for each paragraph whether it is held out."""
        found = digests(paragraphs)
        # As in load_corpus, paragraphs with the lowest keys are held out.
        return (sequence_keys(self.seed, 0, found) < np.uint64(self.fraction * 2.0**64)) | np.isin(found, self.texts)

    def choose(self, paragraphs: Iterable[str], at_most: int = 2_000) -> list[str]:
        """Return the first held-out paragraphs up to the `at_most`-th distinct one, and read no further.

        Held-out paragraphs after them are not used. A stream that mostly repeats itself is not read to its end: of
        ten times `at_most` paragraphs, copies included, the distinct ones have to do.

        Raises: ValueError if there are none.
        """
        parts = _parts(paragraphs, 1000)
        found = itertools.chain.from_iterable(itertools.compress(part, self(part)) for part in parts)
        chosen: list[str] = []
        distinct: set[int] = set()
        for text in itertools.islice(found, 10 * at_most):
            chosen.append(text)
            distinct.add(int(digests([text])[0]))
            if len(distinct) == at_most:
                break
        if not chosen:
            raise ValueError(
                f"validation_fraction: with {self.fraction} no paragraph of the stream is held out, so there is "
                "nothing to measure on. Accepted: a text and a fraction that give at least one. Raise "
                "--validation_fraction, name a --validation_corpus, or leave out --streaming for such a small text."
            )
        return chosen


@dataclass(frozen=True)
class TextStream:
    """A text for MLMTrainer's `train_dataset` that is read while training, with `MLMConfig(streaming=True)`.

    Args:
        read: opens the text and yields its paragraphs, in the same order each time; called once per epoch, only in the
            main process.
        held_out: which paragraphs are not trained on; by default none.

    >>> stream = TextStream(lambda: iter(["to be", "or not", "to be"]), HeldOut(texts=["or not"]))
    >>> stream.first(10)
    ['to be', 'to be']
    """

    read: Callable[[], Iterable[str]]
    held_out: HeldOut = field(default_factory=HeldOut)

    def first(self, number: int = SAMPLE) -> list[str]:
        """Return the first paragraphs that are trained on."""
        parts = _parts(self.checked(self.read()), 1000)
        return list(itertools.islice(itertools.chain.from_iterable(map(self.kept, parts)), number))

    def checked(self, items: Iterable[str], first: int = 0) -> Iterator[str]:
        """Yield what was read from the `first` item on; raise ValueError at the first that is no text."""
        return only_text(items, "train_dataset", first)

    def kept(self, paragraphs: Sequence[str]) -> list[str]:
        """Return only the `paragraphs` that are trained on."""
        return list(itertools.compress(paragraphs, ~self.held_out(paragraphs)))

    def facts(self, make_rows: Callable[[list[str]], list[TokenRow]]) -> dict[str, Any]:
        """Return what a resumed run must have in common with the run before: the first rows, and what is held out."""
        held_out = self.held_out
        rows: Any = make_rows(self.first(1000)) or [[]]
        rule = [held_out.fraction, held_out.seed, fingerprint([{"input_ids": held_out.texts}])]
        words = {"training words": fingerprint(rows, ids="word_ids")} if has_column(rows, "word_ids") else {}
        return {"training text": f"a stream that begins with {fingerprint(rows)}", "held out": rule} | words


@dataclass(frozen=True)
class RowStream(TextStream):
    """A stream of rows of token ids instead of text, for MLMTrainer's `train_dataset`; none is held out.

    `labelled`: the rows bring labels: they were masked beforehand.

    >>> RowStream(lambda: iter([{"input_ids": [101, 7, 102]}])).first()
    [{'input_ids': [101, 7, 102]}]
    """

    labelled: bool = False

    def checked(self, items: Iterable[Any], first: int = 0) -> Iterator[Any]:
        """Yield the rows; what is wrong with one is found when its ids are looked at."""
        return iter(items)

    def kept(self, paragraphs: Sequence[Any]) -> list[Any]:
        """Return all rows."""
        return list(paragraphs)

    def facts(self, make_rows: Callable[[list[str]], list[TokenRow]]) -> dict[str, Any]:
        """Return what a resumed run must have in common with the run before: the first rows, and their labels."""
        labels = {"training labels": fingerprint(self.first(1000), ids="labels")} if self.labelled else {}
        return super().facts(make_rows) | labels


class Place(NamedTuple):
    """The beginning of a block.

    Args:
        epoch: its epoch, from 0.
        texts: the number of this epoch's paragraphs before it.
        rows: the number of this epoch's rows before it. A row's number in its epoch is its `example_id`.
        position: the number of the run's rows before it.
    """

    epoch: int = 0
    texts: int = 0
    rows: int = 0
    position: int = 0


START = Place()


def blocks(
    stream: TextStream,
    make_rows: Callable[[list[str]], list[TokenRow]],
    *,
    size: int,
    seed: int,
    shuffle: bool = True,
    start: Place = START,
) -> Iterator[tuple[Place, list[TokenRow]]]:
    """Yield each block's place and its rows in training order, epoch after epoch, without end.

    Args:
        stream: the text.
        make_rows: makes any number of rows with `input_ids` from the paragraphs of a block.
        size: paragraphs in a block, including those that are held out.
        seed: decides the order.
        shuffle: whether to shuffle the rows of a block.
        start: where to begin. The paragraphs before it are read and skipped.

    Each row has its `epoch` and an `example_id`: its number in the epoch, in the order of the text. If one block holds
    the whole text, the order is that of `EpochSampler`.

    Raises: ValueError if every paragraph is held out, or if the text ends before `start`.

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
                f"corpus: the stream ends after {passed:,} paragraphs, but the checkpoint was saved after "
                f"{place.texts:,}. Accepted: the text with which the run started. Restore it, or start a new run."
            )
        for part in _parts(stream.checked(texts, place.texts), size):
            kept = stream.kept(part)
            rows = make_rows(kept) if kept else []
            ids = np.arange(place.rows, place.rows + len(rows))
            order = np.argsort(order_keys(seed, place.epoch, ids), kind="stable") if shuffle else range(len(rows))
            yield place, [{**rows[i], "example_id": int(ids[i]), "epoch": place.epoch} for i in order]
            place = Place(place.epoch, place.texts + len(part), place.rows + len(rows), place.position + len(rows))
        if not place.rows:
            raise ValueError(
                f"corpus: none of the stream's {place.texts:,} paragraphs is left to train on. Accepted: a text with "
                "at least one that is not held out. Check the corpus, or lower --validation_fraction."
            )
        place = Place(place.epoch + 1, position=place.position)


def rows_of(texts: list[str], tokenizer: Any, max_length: int, **how: Any) -> list[TokenRow]:
    """Return the rows of some paragraphs, as from `mlm_recipes.data.rows.to_rows`, without writing them to disk.

    Each has `input_ids` and `special_tokens_mask`, arrays of int32 and int8, and with a `word_segmenter` also
    `word_ids`, int32. For `how`, see `to_rows`.

    >>> from mlm_recipes import train_tokenizer
    >>> rows_of(["to be"], train_tokenizer(["to be"] * 2, vocab_size=200), max_length=8)[0]["input_ids"][::3]
    array([101, 102], dtype=int32)
    """
    found = to_rows(Dataset.from_dict({"text": texts}), tokenizer, max_length, **how)
    kept = [name for name in ("input_ids", "special_tokens_mask", "word_ids") if name in found.column_names]
    table = found.select_columns(kept).with_format("arrow")[:]
    columns = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        ends = np.cumsum(np.asarray(column.value_lengths()))
        columns.append(np.split(np.asarray(column.flatten()), ends[:-1]))
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter.

    >>> list(_parts("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(items)
    while part := list(itertools.islice(remaining, size)):
        yield part
