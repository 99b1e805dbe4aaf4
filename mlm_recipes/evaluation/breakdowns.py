"""Breaks down a model's gains and losses by the tokens' frequency in training, by piece of a word, and by word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from datasets import Dataset

from ..masking.random_keys import Bools, Floats, Ints
from ..metrics_file import Band, GroupChange, Piece, Word, WordChange, Words
from .paired_bootstrap import MASKED, NATS, paired_changes
from .token_results import TokenResults
from .word_pieces import WordPieces

#: Ranges of a token's count in the training text, both ends included.
BANDS: tuple[tuple[int, int | None], ...] = ((0, 0), (1, 9), (10, 99), (100, 999), (1000, None))

#: The different places at which a word must have been masked to be reported, and the most words that are reported.
PLACES, NAMED = 5, 10


class Breakdown:
    """The results of all masked tokens of a text, before and after training, and the tokens' paragraphs.

    Args:
        before, after: the results of the same tokens, all draws joined.
        paragraph: the index of each row's paragraph, from 0, shape `(rows,)`.
    """

    def __init__(self, before: TokenResults, after: TokenResults, paragraph: Ints) -> None:
        same = (np.array_equal(getattr(before, name), getattr(after, name)) for name in ("row", "position", "token"))
        assert all(same), "not the same masked tokens"
        self.before, self.after = before, after
        self.of_paragraph = paragraph[before.row]  # (tokens,)
        self.paragraphs = int(paragraph.max()) + 1
        # A number for each place in the text: a token that two draws have masked is one place.
        self.place = np.unique(np.stack([before.row, before.position]), axis=1, return_inverse=True)[1].ravel()

    def by_frequency(self, counts: Ints) -> list[Band]:
        """Return metrics.json's `bands`; `counts` has each token's count in the training text, shape `(vocab,)`."""
        seen = counts[self.before.token]
        found: list[Band] = []
        for low, high in BANDS:
            chosen = (seen >= low) & (seen <= high if high is not None else True)
            name = "unseen" if high == 0 else f"{low:,} and more" if high is None else f"{low}-{high}"
            if chosen.any():
                found.append({"name": name, "from": low, "to": high, **self._group(chosen)})
        return found

    def by_piece(self, rows: Dataset, pieces: WordPieces) -> list[Piece]:
        """Return metrics.json's `pieces`: an entry for first pieces, including whole words, and one for the others."""
        first = np.zeros(len(self.before), dtype=np.bool_)
        for ids, entries in self._rows(rows):
            first[entries] = pieces.begin(ids)[self.before.position[entries]]
        both = (("first", first), ("continuation", ~first))
        return [{"name": name, **self._group(chosen)} for name, chosen in both if chosen.any()]

    def by_word(self, rows: Dataset, pieces: WordPieces) -> Words:
        """Return metrics.json's `words`: of the words that can be compared, those whose loss changed most."""
        numbers: dict[str, int] = {}
        word = np.zeros(len(self.before), dtype=np.int64)  # the number of each entry's word
        start = np.zeros_like(word)  # the position at which the word begins
        for ids, entries in self._rows(rows):
            begins = pieces.begin(ids)
            begun = np.maximum.accumulate(np.where(begins, np.arange(len(ids)), 0))
            start[entries] = begun[self.before.position[entries]]
            for entry in entries:
                spelled = pieces.word_at(ids, begins, int(self.before.position[entry]))
                word[entry] = numbers.setdefault(spelled, len(numbers))
        _, first = np.unique(np.stack([self.before.row, start]), axis=1, return_index=True)
        places = np.bincount(word[first], minlength=len(numbers))
        old, new = self.before.sums(word, len(numbers)), self.after.sums(word, len(numbers))
        change = (new[:, NATS] - old[:, NATS]) / old[:, MASKED]
        compared = [n for spelled, n in numbers.items() if places[n] >= PLACES and any(map(str.isalnum, spelled))]
        ranked = sorted(compared, key=lambda n: change[n])
        spellings = list(numbers)

        def named(which: list[int]) -> list[Word]:
            return [{"word": spellings[n], "places": int(places[n]), **self._word(word == n)} for n in which[:NAMED]]

        return {
            "at_least": PLACES,
            "compared": len(compared),
            "gained": named([n for n in ranked if change[n] < 0]),
            "lost": named([n for n in reversed(ranked) if change[n] > 0]),
        }

    def _rows(self, rows: Dataset) -> Iterator[tuple[Ints, Ints]]:
        """Yield, for each row with a masked token, its token ids and the indices of its entries."""
        order = np.argsort(self.before.row, kind="stable")
        which, starts = np.unique(self.before.row[order], return_index=True)
        for row, entries in zip(which, np.split(order, starts[1:]), strict=True):
            yield np.asarray(rows[int(row)]["input_ids"], dtype=np.int64), entries

    def _group(self, chosen: Bools) -> GroupChange:
        before, after = self._sums(chosen)
        found = paired_changes(before, after, ("loss", "accuracy", "top5_accuracy"))
        return {
            "masked_tokens": int(chosen.sum()),
            "distinct_tokens": len(np.unique(self.place[chosen])),
            "paragraphs": int((before[:, MASKED] > 0).sum()),
            "measures": {
                "loss": found["loss"],
                "accuracy": found["accuracy"],
                "top5_accuracy": found["top5_accuracy"],
            },
        }

    def _word(self, chosen: Bools) -> WordChange:
        before, after = self._sums(chosen)
        return {
            "masked_tokens": int(chosen.sum()),
            "paragraphs": int((before[:, MASKED] > 0).sum()),
            **paired_changes(before, after, ["loss"])["loss"],
        }

    def _sums(self, chosen: Bools) -> tuple[Floats, Floats]:
        groups = self.of_paragraph[chosen]
        before, after = self.before.where(chosen), self.after.where(chosen)
        return before.sums(groups, self.paragraphs), after.sums(groups, self.paragraphs)
