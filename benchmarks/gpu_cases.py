"""What benchmarks/gpu.py measures on: three models, each on packed rows and on two sizes of batches of paragraphs."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, ModernBertForMaskedLM, set_seed
from workload import TEXT, evenly_spaced, grouped_batches, packed_rows, random_batches, rows_of, typical

Batches = list[list[list[int]]]

#: transformers' group_by_length sorts the rows of this many batches together (LengthGroupedSampler).
_GROUPED_TOGETHER = 50

# Published sizes, with the special tokens of a tokenizer that is trained here. BertConfig's and ModernBertConfig's
# defaults are the base models': 110M parameters and 30,522 tokens, 149M and 50,368.
# Source of the large one: config.json of answerdotai/ModernBERT-large.
_BERT_TOKENS = {"pad_token_id": 0}
_MODERNBERT_TOKENS = {
    "pad_token_id": 0,
    "bos_token_id": 101,
    "cls_token_id": 101,
    "eos_token_id": 102,
    "sep_token_id": 102,
}
_TINY = {
    "vocab_size": 1000,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_CONFIGS: dict[str, Any] = {
    "bert-base": lambda: BertConfig(**_BERT_TOKENS),
    "ModernBERT-base": lambda: ModernBertConfig(**_MODERNBERT_TOKENS),
    "ModernBERT-large": lambda: ModernBertConfig(
        hidden_size=1024, intermediate_size=2624, num_hidden_layers=28, num_attention_heads=16, **_MODERNBERT_TOKENS
    ),
    "tiny BERT": lambda: BertConfig(**_BERT_TOKENS, **_TINY),
    "tiny ModernBERT": lambda: ModernBertConfig(**_MODERNBERT_TOKENS, **_TINY),
}


@dataclass(frozen=True)
class Case:
    """A model and what a step is given; and how many steps warm up and are timed."""

    model: str
    batch: int
    packed: bool = False
    length: int = 512
    warm_up: int = 8
    window: int = 8  # steps between two readings of the clock; before each reading, the GPU is waited for
    windows: int = 4

    @property
    def name(self) -> str:
        """Such as `bert-base, 64 x 512 packed`."""
        rows = f"{self.batch} x {self.length} packed" if self.packed else f"{self.batch} paragraphs"
        return f"{self.model}, {rows}"

    @property
    def steps(self) -> int:
        """Steps until the clock is read for the last time."""
        return self.warm_up + self.window * self.windows

    def batches(self, rows: list[list[int]], grouped: bool, count: int) -> Batches:
        """Return what the Trainers are given, in this order; each window of `grouped` has short and long batches."""
        if self.packed:
            packed = packed_rows(rows, self.length)
            return [[packed[(i * self.batch + j) % len(packed)] for j in range(self.batch)] for i in range(count)]
        batches = random_batches(self._shuffled(rows, max(count, _GROUPED_TOGETHER)), self.batch)
        if not grouped:
            return batches[:count]
        batches, found = grouped_batches([row for batch in batches for row in batch], self.batch), []
        while len(found) < count:
            found += evenly_spaced(batches, self.window)
        return found[:count]

    def typical_batches(self, rows: list[list[int]], count: int = 4) -> Batches:
        """Return what the bare loops are given, all the same: the batches closest to the average one."""
        if self.packed:
            return self.batches(rows, False, count)
        return typical(random_batches(self._shuffled(rows, _GROUPED_TOGETHER), self.batch), count)

    def _shuffled(self, rows: list[list[int]], batches: int) -> list[list[int]]:
        """Return rows for so many batches: the text again and again, each time in a different order."""
        generator, found = random.Random(self.batch), []
        while len(found) < batches * self.batch:
            found += generator.sample(rows, len(rows))
        return found[: batches * self.batch]


# Steps of 16 paragraphs take longest to warm up, since graphs are captured for shapes that have not been seen before.
_FEW = {"batch": 16, "warm_up": 30, "window": 20}
_MANY = {"batch": 128}
_PACKED = {"batch": 64, "packed": True, "warm_up": 5, "window": 5}

#: In the order of their importance.
CASES = (
    Case("bert-base", **_PACKED),
    Case("bert-base", **_MANY),
    Case("bert-base", **_FEW),
    Case("ModernBERT-base", **_PACKED),
    Case("ModernBERT-base", **_MANY),
    Case("ModernBERT-base", **_FEW),
    Case("ModernBERT-large", **_PACKED),
    Case("ModernBERT-large", **_MANY),
    Case("ModernBERT-large", **_FEW),
)

#: The first of these have a target to reach.
TARGETED = CASES[:4]

_SHORT: dict[str, Any] = {"length": 32, "warm_up": 2, "window": 1, "windows": 2}
TINY_CASES = (
    Case("tiny BERT", batch=2, **_SHORT),
    Case("tiny ModernBERT", batch=4, packed=True, **_SHORT),
)


@cache
def _random_model(name: str) -> Any:
    set_seed(0)
    config = _CONFIGS[name]()
    return (BertForMaskedLM if isinstance(config, BertConfig) else ModernBertForMaskedLM)(config)


def make_model(name: str, device: torch.device) -> Any:
    """Return a model with random weights, the same each time; the cost is that of trained ones."""
    return copy.deepcopy(_random_model(name)).to(device).train()


def parameters_of(name: str) -> int:
    """Return how many parameters a model has."""
    return sum(parameter.numel() for parameter in _random_model(name).parameters())


def text_of(length: int, model: str) -> tuple[Any, list[list[int]]]:
    """Return a tokenizer, and *Meditations* as rows of at most `length` token ids that the model has embeddings for."""
    return _text(length, min(8192, _random_model(model).config.vocab_size))


@cache
def _text(length: int, vocabulary: int) -> tuple[Any, list[list[int]]]:
    return rows_of(TEXT, length, vocabulary)
