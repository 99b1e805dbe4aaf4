"""Measures a text and its rows without a model: lengths, padding, pieces of words, lines."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from tokenizers import normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from ..inspection_file import Bucket, LineShapes, Ratio, WordPieceCounts
from ..masking.random_keys import Ints
from ..masking.vocabulary import special_token_ids
from .text_to_ids import can_encode

#: Upper bounds for the tokens and paragraphs of a sample, which is spread evenly over a long text.
_TOKENS, _PARAGRAPHS = 400_000, 20_000


def ratio(part: float, whole: float) -> Ratio:
    """Return a sum, a count and their ratio, which is 0 if the count is 0.

    >>> ratio(1, 4), ratio(0, 0)["ratio"]
    ({'sum': 1, 'count': 4, 'ratio': 0.25}, 0.0)
    """
    return {"sum": part, "count": whole, "ratio": part / whole if whole else 0.0}


def per_row(rows: Dataset, tokenizer: Any) -> tuple[Ints, ...]:
    """Return tokens, special tokens, unknown tokens and maskable tokens of each row, four arrays of shape `(rows,)`.

    Special tokens are those that the tokenizer added. Maskable tokens are neither special nor unknown.
    """
    specials, found = special_token_ids(tokenizer), []
    unknown_id = -1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    for table in rows.with_format("arrow").iter(batch_size=1000):
        ids = table["input_ids"].combine_chunks()
        lengths, flat = np.asarray(ids.value_lengths(), dtype=np.int64), np.asarray(ids.flatten())
        added = np.asarray(table["special_tokens_mask"].combine_chunks().flatten()).astype(np.bool_)
        row = np.repeat(np.arange(len(lengths)), lengths)
        per_token = (added, ~added & (flat == unknown_id), ~added & ~np.isin(flat, specials))
        found.append([lengths, *(np.bincount(row[which], minlength=len(lengths)) for which in per_token)])
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def histogram(lengths: Ints) -> list[Bucket]:
    """Count paragraphs and their tokens by length: up to 8 tokens, to 16, to 32, ...

    >>> histogram(np.array([3, 8, 9]))
    [{'from': 1, 'to': 8, 'paragraphs': 2, 'tokens': 11}, {'from': 9, 'to': 16, 'paragraphs': 1, 'tokens': 9}]
    """
    found: list[Bucket] = []
    lower, upper = 1, 8
    while lower <= lengths.max():
        within = lengths[(lengths >= lower) & (lengths <= upper)]
        found.append({"from": lower, "to": upper, "paragraphs": len(within), "tokens": int(within.sum())})
        lower, upper = upper + 1, 2 * upper
    return found


def expected_positions(lengths: Ints, batch_size: int) -> float:
    """Return the number of positions in an epoch, including padding, if each batch is padded to its longest row.

    This is the exact expectation over all orders of the rows: the longest of `batch_size` rows is the i-th shortest of
    n with probability (C(i, batch_size) - C(i - 1, batch_size)) / C(n, batch_size). `lengths` has shape `(rows,)`.

    >>> round(expected_positions(np.array([1, 2, 3]), 2), 3)  # 2 x (2 + 3 + 3) / 3, and 2 for the row that is left
    7.333
    """
    ordered, rows = np.sort(lengths), len(lengths)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rows + 1)))])  # (rows + 1,)

    def longest(size: int) -> float:
        i = np.arange(size, rows + 1)
        log_ways = log_factorial[i] - log_factorial[i - size] - log_factorial[rows] + log_factorial[rows - size]
        at_most = np.exp(log_ways)  # P(the longest is among the i shortest)
        return float((np.diff(at_most, prepend=0.0) * ordered[size - 1 :]).sum())

    full, rest = divmod(rows, batch_size)
    return (full * batch_size * longest(batch_size) if full else 0.0) + (rest * longest(rest) if rest else 0.0)


def word_pieces(splits: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, tokens: int) -> WordPieceCounts:
    """Count the pieces into which the tokenizer splits each word; for a text with many `tokens`, in a sample.

    Words are found by BERT's rule: they are separated by white space and punctuation, and an ideograph is a word.
    Spellings with the same pieces count as one word. The words that cause the most additional pieces come first.
    """
    every = math.ceil(tokens / _TOKENS)
    isolate = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    part = pre_tokenizers.BertPreTokenizer()
    parts = (part.pre_tokenize_str(isolate.normalize_str(text)) for text in _spread(splits, every))
    # Bounded separately, since one paragraph may be a book.
    surfaces = Counter(itertools.islice((word for found in parts for word, _ in found), 2 * _TOKENS))
    # As inside a text, which some vocabularies distinguish; others have no space, nor an unknown token.
    before = " " if all(can_encode(tokenizer, f" {word}") for word in list(surfaces)[:1]) else ""
    encoded: Any = [f"{before}{word}" for word in surfaces]
    encoded = tokenizer(encoded, add_special_tokens=False)["input_ids"] if encoded else []
    known: dict[tuple[int, ...], Counter[str]] = {}
    unknown: Counter[str] = Counter()
    counted = pieces = broken = 0
    for (word, times), ids in zip(surfaces.items(), encoded, strict=True):
        if tokenizer.unk_token_id in ids:
            unknown[word] += times
        if not any(map(str.isalnum, word)):  # punctuation
            continue
        counted, pieces, broken = counted + times, pieces + times * len(ids), broken + times * (len(ids) > 1)
        if tokenizer.unk_token_id not in ids:
            known.setdefault(tuple(ids), Counter())[word] += times
    frequent = [(ids, spelled, spelled.total()) for ids, spelled in known.items() if len(ids) > 1]
    frequent = [found for found in frequent if found[2] >= 3]
    frequent.sort(key=lambda found: (-(len(found[0]) - 1) * found[2], found[1].most_common(1)[0][0]))
    return {
        "counted": counted,
        "sample": every > 1 or surfaces.total() == 2 * _TOKENS,
        "pieces_per_word": ratio(pieces, counted),
        "broken": ratio(broken, counted),
        "most_fragmented": [
            {
                "word": spelled.most_common(1)[0][0],
                "count": times,
                "pieces": list(tokenizer.convert_ids_to_tokens(list(ids))),
            }
            for ids, spelled, times in frequent[:10]
        ],
        "most_unknown": [{"word": word, "count": times} for word, times in unknown.most_common(10)],
    }


def line_shapes(splits: Mapping[str, Dataset]) -> LineShapes:
    """Measure what distinguishes wrapped lines from paragraphs, in characters; for many paragraphs, in a sample.

    Returns `usual_longest` (the 95th percentile of the lengths), and the shares of paragraphs that are `nearly_as_long`
    (at most 15 characters shorter) and that `begin_with_a_small_letter`.
    """
    every = math.ceil(sum(map(len, splits.values())) / _PARAGRAPHS)
    texts = [text.strip() for text in _spread(splits, every)]
    characters = np.array([len(text) for text in texts])
    usual = int(np.quantile(characters, 0.95))
    return {
        "usual_longest": usual,
        "nearly_as_long": ratio(int((characters >= usual - 15).sum()), len(texts)),
        "begin_with_a_small_letter": ratio(sum(text[:1].islower() for text in texts), len(texts)),
    }


def _spread(splits: Mapping[str, Dataset], every: int) -> Iterator[str]:
    """Yield every `every`-th paragraph; all of them for 0 or 1."""
    for rows in splits.values():
        for batch in rows.select(range(0, len(rows), max(1, every))).iter(batch_size=1000):
            yield from batch["text"]
