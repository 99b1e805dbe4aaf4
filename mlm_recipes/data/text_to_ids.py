"""Turns texts into rows of token ids, as Arrow columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .windows import cut_points, window_ids
from .word_cache import TokenIds, Tokens

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

    A call returns a table with `input_ids` (int32), `special_tokens_mask` (int8), `cut_off` (number of tokens lost) and
    `example_id` (for a text's first row the text's own, for further rows from `mlm_recipes.data.windows.window_ids`).

    Raises: ValueError for a `max_length` without room for a token, an unknown `long_text`, or a `stride` that is as
    long as a window.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> Encoder(tokenizer, max_length=6)(["to be or not to be"], [0])["input_ids"].to_pylist()
    [[101, 115, 114, 118, 117, 102], [101, 115, 114, 102]]
    """

    def __init__(self, tokenizer: Any, max_length: int, long_text: str = "split", stride: int = 0) -> None:
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

    def __call__(self, texts: Sequence[str], example_ids: Sequence[int]) -> pa.Table:
        """Return the rows of `texts`."""
        rows: list[Tokens] = []
        ids: list[int] = []
        cut_off: list[int] = []
        repeated: list[int] = []
        for text, tokens, example_id in zip(texts, self.ids(texts), example_ids, strict=True):
            lost = len(tokens) - self.room
            if lost <= 0 or self.long_text == "truncate":
                kept = tokens[: self.room] if self.tokenizer.truncation_side == "right" else tokens[-self.room :]
                rows.append(kept)
                ids.append(example_id)
                cut_off.append(max(0, lost))
                repeated.append(0)
            else:
                points = cut_points(text, self.tokenizer, self.room - self.stride)
                assert points[-1] == len(tokens), text[:100]
                windows = list(itertools.pairwise(points))
                starts = [max(0, start - self.stride) for start, _ in windows]
                rows += [tokens[start:end] for start, (_, end) in zip(starts, windows, strict=True)]
                repeated += [begin - start for start, (begin, _) in zip(starts, windows, strict=True)]
                ids += window_ids(example_id, len(windows))
                cut_off += [0] * len(windows)
        return self._table(rows, ids, cut_off, repeated)

    def packed(self, texts: Sequence[str]) -> pa.Table:
        """Return the ids of `texts`, joined by the tokenizer's last special token and cut into full rows.

        The last row may be short. `example_id` is 0 in every row.
        """
        parts = itertools.chain.from_iterable((ids, self.after) for ids in self.ids(texts))
        joined = np.concatenate([*parts, np.empty(0, dtype=np.int32)])[
            : -len(self.after)
        ]  # no separator after the last text
        rows = [joined[start : start + self.room] for start in range(0, len(joined), self.room)]
        return self._table(rows, [0] * len(rows), [0] * len(rows), [0] * len(rows), separators=self.after)

    def _table(
        self,
        rows: Sequence[Tokens],
        example_ids: Sequence[int],
        cut_off: Sequence[int],
        repeated: Sequence[int],
        separators: Sequence[int] | Tokens = (),
    ) -> pa.Table:
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + len(self.before) + len(self.after)
        ends = np.cumsum(lengths)
        parts = itertools.chain.from_iterable((self.before, row, self.after) for row in rows)
        flat = np.concatenate([*parts, np.empty(0, dtype=np.int32)])  # (tokens,)
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
        return pa.table(
            {
                "input_ids": pa.ListArray.from_arrays(offsets, pa.array(flat)),
                "special_tokens_mask": pa.ListArray.from_arrays(offsets, pa.array(special)),
                "cut_off": pa.array(cut_off, type=pa.int32()),
                "example_id": pa.array(example_ids, type=pa.int64()),
            }
        )


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
