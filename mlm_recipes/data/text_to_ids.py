"""Turns texts into rows of token ids, as Arrow columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .windows import cut_points, window_ids
from .word_cache import TokenIds, Tokens
from .word_segmenter import WordNumbers, word_column

#: What to do with a text that is longer than a row.
LONG_TEXT = ("split", "truncate")


class Encoder:
    """Tokenize texts into rows of at most `max_length` tokens, including special tokens.

    Args:
        tokenizer: one of transformers'.
        max_length: upper bound for the tokens of a row.
        long_text: `split`: a longer text becomes several rows (windows), which end with a sentence where possible, and
            no token is lost; `truncate`: the tokens that do not fit are cut off, as in the tutorial.
        stride: with `split`, how many tokens of the previous window each window repeats, for context. They are marked
            as special, so that no token is masked in two rows.
        word_segmenter: how Chinese text is divided into words, a name in `mlm_recipes.data.word_segmenter.SEGMENTERS`,
            or `none`. It does not change the rows' tokens.

    A call returns a table with `input_ids` (int32), `special_tokens_mask` (int8), `cut_off` (number of tokens lost) and
    `example_id` (for a text's first row the text's own, for further rows from `mlm_recipes.data.windows.window_ids`).
    With a `word_segmenter`, it also has `word_ids` (int32): the number of the word that each token belongs to, rising
    along the row, and -1 for special tokens.

    Raises: ValueError for a `max_length` without room for a token, an unknown `long_text`, or a `stride` that is as
    long as a window; and as `mlm_recipes.data.word_segmenter.WordNumbers`.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> Encoder(tokenizer, max_length=6)(["to be or not to be"], [0])["input_ids"].to_pylist()
    [[101, 115, 114, 118, 117, 102], [101, 115, 114, 102]]
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        long_text: str = "split",
        stride: int = 0,
        word_segmenter: str = "none",
    ) -> None:
        if long_text not in LONG_TEXT:
            raise ValueError(f"long_text: received {long_text!r}. Accepted: {' or '.join(LONG_TEXT)}.")
        self.tokenizer = tokenizer
        self.ids = TokenIds(tokenizer)
        self.before, self.after = special_tokens(tokenizer)
        self.room = max_length - len(self.before) - len(self.after)
        if self.room < 1:
            raise ValueError(
                f"max_length: received {max_length}. Accepted: {max_length - self.room + 1} or more, since a row has "
                f"{max_length - self.room} special tokens."
            )
        if not 0 <= stride < self.room:
            raise ValueError(
                f"stride: received {stride}. Accepted: 0 to {self.room - 1}, less than the tokens of a row."
            )
        self.long_text, self.stride = long_text, stride
        self.words = WordNumbers(tokenizer, word_segmenter) if word_segmenter != "none" else None

    def __call__(self, texts: Sequence[str], example_ids: Sequence[int]) -> pa.Table:
        """Return the rows of `texts`."""
        all_tokens = self.ids(texts)
        all_words = self._words(texts, all_tokens)
        rows: list[Tokens] = []
        words: list[Tokens] = []
        ids: list[int] = []
        cut_off: list[int] = []
        repeated: list[int] = []
        for text, tokens, of_text, example_id in zip(texts, all_tokens, all_words, example_ids, strict=True):
            lost = len(tokens) - self.room
            if lost <= 0 or self.long_text == "truncate":
                kept = slice(self.room) if self.tokenizer.truncation_side == "right" else slice(-self.room, None)
                rows.append(tokens[kept])
                words.append(of_text[kept])
                ids.append(example_id)
                cut_off.append(max(0, lost))
                repeated.append(0)
            else:
                points = cut_points(text, self.tokenizer, self.room - self.stride)
                assert points[-1] == len(tokens), text[:100]
                windows = list(itertools.pairwise(points))
                starts = [max(0, start - self.stride) for start, _ in windows]
                rows += [tokens[start:end] for start, (_, end) in zip(starts, windows, strict=True)]
                words += [of_text[start:end] for start, (_, end) in zip(starts, windows, strict=True)]
                repeated += [begin - start for start, (begin, _) in zip(starts, windows, strict=True)]
                ids += window_ids(example_id, len(windows))
                cut_off += [0] * len(windows)
        return self._table(rows, words, ids, cut_off, repeated)

    def packed(self, texts: Sequence[str]) -> pa.Table:
        """Return the ids of `texts`, joined by the tokenizer's last special token and cut into full rows.

        The last row may be short. `example_id` is 0 in every row.
        """
        tokens = self.ids(texts)
        rows = self._in_rows(tokens, self.after)
        words = self._in_rows(word_column(self._words(texts, tokens)), _no_word(self.after))
        nothing = [0] * len(rows)
        return self._table(rows, words, nothing, nothing, nothing, separators=self.after)

    def _words(self, texts: Sequence[str], tokens: Sequence[Tokens]) -> Sequence[Tokens]:
        """Return the words of each text's tokens; without a segmenter, the same shapes with no meaning."""
        if self.words is None:
            return tokens
        found = self.words(texts)
        assert list(map(len, found)) == list(map(len, tokens)), "the tokenizer has found other tokens this time"
        return found

    def _in_rows(self, parts: Sequence[Tokens], separator: Tokens) -> list[Tokens]:
        """Return the parts joined by a separator and cut into full rows."""
        separated = itertools.chain.from_iterable((part, separator) for part in parts)
        joined = np.concatenate([*separated, np.empty(0, dtype=np.int32)])[
            : -len(separator)
        ]  # no separator after the last text
        return [joined[start : start + self.room] for start in range(0, len(joined), self.room)]

    def _table(
        self,
        rows: Sequence[Tokens],
        words: Sequence[Tokens],
        example_ids: Sequence[int],
        cut_off: Sequence[int],
        repeated: Sequence[int],
        separators: Sequence[int] | Tokens = (),
    ) -> pa.Table:
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + len(self.before) + len(self.after)
        ends = np.cumsum(lengths)
        flat = _joined(rows, self.before, self.after)  # (tokens,)
        special = np.zeros(len(flat), dtype=np.int8)
        for i in range(len(self.before)):
            special[ends - lengths + i] = 1
        for i in range(len(self.after)):
            special[ends - 1 - i] = 1
        special |= np.isin(flat, separators)
        for row in np.flatnonzero(repeated).tolist():
            start = ends[row] - lengths[row] + len(self.before)
            special[start : start + repeated[row]] = 1
        offsets = pa.array(np.concatenate([[0], ends]), type=pa.int32())
        columns = {
            "input_ids": pa.ListArray.from_arrays(offsets, pa.array(flat)),
            "special_tokens_mask": pa.ListArray.from_arrays(offsets, pa.array(special)),
            "cut_off": pa.array(cut_off, type=pa.int32()),
            "example_id": pa.array(example_ids, type=pa.int64()),
        }
        if self.words is not None:
            of_tokens = _joined(words, _no_word(self.before), _no_word(self.after))
            columns["word_ids"] = pa.ListArray.from_arrays(offsets, pa.array(of_tokens))
        return pa.table(columns)


def _joined(rows: Sequence[Tokens], before: Tokens, after: Tokens) -> Tokens:
    parts = itertools.chain.from_iterable((before, row, after) for row in rows)
    return np.concatenate([*parts, np.empty(0, dtype=np.int32)])


def _no_word(special: Tokens) -> Tokens:
    return np.full_like(special, -1)


def special_tokens(tokenizer: Any) -> tuple[Tokens, Tokens]:
    """Return the special tokens that the tokenizer adds before a text and after it.

    >>> from mlm_recipes import train_tokenizer
    >>> before, after = special_tokens(train_tokenizer(["to be"] * 2, vocab_size=200))
    >>> before.tolist(), after.tolist()
    ([101], [102])
    """
    probe = next(text for text in _probes(tokenizer) if can_encode(tokenizer, text))
    plain, whole = tokenizer(probe, add_special_tokens=False)["input_ids"], tokenizer(probe)["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return np.array(whole[:start], dtype=np.int32), np.array(whole[start + len(plain) :], dtype=np.int32)


def _probes(tokenizer: Any) -> Iterator[str]:
    """Yield texts of which a vocabulary has one: common characters, then its own tokens, as for one of amino acids."""
    yield from ("a", "1", ".", "\u4e2d")
    yield from (token for token in sorted(tokenizer.get_vocab()) if token not in tokenizer.all_special_tokens)


def can_encode(tokenizer: Any, text: str) -> bool:
    """Tell whether a tokenizer has tokens for a text; without an unknown token, it fails for one that it does not know.

    >>> from mlm_recipes import train_tokenizer
    >>> can_encode(train_tokenizer(["to be"] * 2, vocab_size=200), "to be")
    True
    """
    try:
        return bool(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:
        if type(error) is not Exception:  # tokenizers has no type of its own for a text that is not in the vocabulary
            raise
        return False
