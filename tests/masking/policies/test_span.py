from __future__ import annotations

import numpy as np

from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.span import LENGTHS, choose
from mlm_recipes.masking.random_keys import sequence_keys


def test_the_lengths_are_spanberts():
    assert len(LENGTHS) == 10
    assert abs(LENGTHS.sum() - 1) < 1e-12
    assert np.allclose(LENGTHS[1:] / LENGTHS[:-1], 0.8)
    assert round(float(np.arange(1, 11) @ LENGTHS), 1) == 3.8  # the paper's mean


def test_spans_are_whole_words_one_after_the_other():
    generator = np.random.default_rng(0)
    pieces = generator.integers(1, 5, 20_000)
    words = np.repeat(np.arange(len(pieces)), pieces)
    tokens = FlatTokens(words, np.full(len(words), True), sequence_keys(0, 0, [0]), np.array([len(words)]), words)
    chosen = choose(tokens, np.array([0.15]))
    of_word = np.bincount(words, chosen)
    assert ((of_word == 0) | (of_word == pieces)).all()
    borders = np.flatnonzero(np.diff(np.concatenate([[0], of_word > 0, [0]])))
    lengths = borders[1::2] - borders[::2]
    assert lengths.max() == 10
    assert abs(lengths.mean() - np.arange(1, 11) @ LENGTHS) < 4 * (lengths.var() / len(lengths)) ** 0.5


def test_the_number_of_masked_words_varies_as_stated():
    rows, length, share = 2000, 500, 0.15
    words = np.arange(rows * length)
    tokens = FlatTokens(words, words >= 0, sequence_keys(0, 0, range(rows)), np.full(rows, length), words)
    counts = choose(tokens, np.full(rows, share)).reshape(rows, length).sum(1)
    ratio = counts.var() / (length * share * (1 - share))
    assert abs(ratio - 4.5) < 4 * 4.5 * (2 / rows) ** 0.5 + 0.1  # of a normal's sample variance, and of rounding
