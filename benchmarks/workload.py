"""What a measured step is given, and what it has to compute: rows of token ids, batches, floating-point operations."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from mlm_recipes.data.tokenizer import train_tokenizer

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "mlm_recipes/bundled/corpora/meditations.txt"


def larger_text(text: Path, copies: int, place: Path) -> Path:
    """Write `copies` times as many paragraphs, each with its words in another order, so that none is a duplicate."""
    paragraphs = [line for line in text.read_text("utf-8").splitlines() if line.strip()]
    with place.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            draw_order = random.Random(copy)
            for paragraph in paragraphs:
                words = paragraph.split()
                if copy:
                    draw_order.shuffle(words)
                file.write(" ".join(words) + "\n")
    return place


def rows_of(text: Path, length: int = 512, vocabulary: int = 8192) -> tuple[Any, list[list[int]]]:
    """Return a tokenizer and the text's paragraphs as token ids, in random order."""
    paragraphs = [line for line in text.read_text("utf-8").splitlines() if line.strip()]
    tokenizer = train_tokenizer(paragraphs, vocab_size=vocabulary)
    rows = tokenizer(paragraphs, truncation=True, max_length=length)["input_ids"]
    random.Random(0).shuffle(rows)
    return tokenizer, rows


def packed_rows(rows: list[list[int]], length: int = 512) -> list[list[int]]:
    """Return the tokens of all rows end to end, as rows of exactly `length` tokens."""
    first, last = rows[0][0], rows[0][-1]  # [CLS] and [SEP]
    flat, inner = [token for row in rows for token in row[1:-1]], length - 2
    return [[first, *flat[at : at + inner], last] for at in range(0, len(flat) - inner + 1, inner)]


def random_batches(rows: list[list[int]], size: int) -> list[list[list[int]]]:
    """Return an epoch's batches of `size` rows, in the order that the rows are in."""
    return [rows[at : at + size] for at in range(0, len(rows) - size + 1, size)]


def grouped_batches(rows: list[list[int]], size: int) -> list[list[list[int]]]:
    """Return an epoch's batches of `size` rows as transformers' `group_by_length` makes them."""
    generator = torch.Generator().manual_seed(0)
    order = get_length_grouped_indices([len(row) for row in rows], size, generator=generator)
    return random_batches([rows[i] for i in order], size)


def typical(batches: list[list[list[int]]], count: int) -> list[list[list[int]]]:
    """Return the `count` batches whose tokens, with and without padding, are closest to the average batch's."""
    tokens = [sum(map(len, batch)) for batch in batches]
    padded = [len(batch) * max(map(len, batch)) for batch in batches]
    means = statistics.mean(tokens), statistics.mean(padded)
    far = [abs(t / means[0] - 1) + abs(p / means[1] - 1) for t, p in zip(tokens, padded, strict=True)]
    return [batches[i] for i in sorted(range(len(batches)), key=far.__getitem__)[:count]]


def evenly_spaced(batches: list[list[list[int]]], count: int) -> list[list[list[int]]]:
    """Return `count` batches, evenly spaced; batches grouped by length go from long rows to short ones."""
    return [batches[int((i + 0.5) * len(batches) / count)] for i in range(count)]


def masked_tokens(lengths: Sequence[int]) -> int:
    """Return how many tokens of rows of these lengths are masked on average: 15%, never [CLS] or [SEP]."""
    return round(0.15 * (sum(lengths) - 2 * len(lengths)))


def model_flops(model: Any, lengths: Sequence[int], masked: int) -> float:
    """Return the floating-point operations that a step needs: six for each weight and token.

    Matrix products alone; the head's on masked tokens only, attention's by the square of each length. The same for
    every row: what a row does beyond that is waste.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    encoder = {id(module) for module in model.base_model.modules()}
    body = sum(module.weight.numel() for module in linear.values() if id(module) in encoder)
    head = sum(module.weight.numel() for module in linear.values() if id(module) not in encoder)
    config = model.config
    attention = 12 * config.num_hidden_layers * config.hidden_size * sum(length**2 for length in lengths)
    return 6.0 * (body * sum(lengths) + head * masked) + attention
