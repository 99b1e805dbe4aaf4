"""Rows that a model is shown before a run, to ask it what it does with rows like the run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..masking.vocabulary import number_of_ids, special_token_ids
from .embeddings import embedding_rows
from .evaluation_mode import evaluation_mode

#: What a model raises if it does not take what it is shown.
REFUSALS = (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError, NotImplementedError)

#: A prime, so that neighbouring tokens are far apart in the vocabulary and do not repeat soon.
_STRIDE = 7919


def sample_rows(model: Any, lengths: Sequence[int], tokenizer: Any = None) -> list[torch.Tensor]:
    """Return rows as a run would show them to `model`: special tokens at both ends, and some tokens masked.

    Each row has another share of masks, since ESM-like models count the masks of a row. No token is padding.

    Args:
        model: a masked-language model; the rows are on its device.
        lengths: the number of tokens in each row.
        tokenizer: the model's tokenizer, whose special tokens are used; without it, those of the model's config.

    Returns int64 tensors of shape `(length,)`.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> config = BertConfig(vocab_size=50, pad_token_id=0, cls_token_id=1, sep_token_id=2, mask_token_id=3, **size)
    >>> [row.tolist() for row in sample_rows(BertForMaskedLM(config), [6, 1])]
    [[1, 3, 25, 3, 39, 2], [14]]
    """
    device, embeddings = next(model.parameters()).device, _embeddings(model, tokenizer)
    # A config may name tokens that its model does not have, such as EuroBERT's default for a small vocabulary.
    special = {name: token for name, token in special_ids(model, tokenizer).items() if token < embeddings}
    held = set(special.values()) | set(() if tokenizer is None else special_token_ids(tokenizer).tolist())
    ordinary = torch.tensor([token for token in range(embeddings) if token not in held] or [0])
    rows = []
    for number, length in enumerate(lengths):
        places = torch.arange(length)
        row = ordinary[(places + 1 + 7 * number) * _STRIDE % len(ordinary)]
        if "mask" in special and length > 1:
            row[1 :: number + 2] = special["mask"]  # the first row has the most masks
        if length > 2:
            row[0], row[-1] = special.get("first", row[0]), special.get("last", row[-1])
        rows.append(row.to(device))
    return rows


def pad_id(model: Any, tokenizer: Any = None) -> int:
    """Return the id that rows are padded with; 0 if neither the tokenizer nor, without one, the config states any."""
    return special_ids(model, tokenizer).get("pad", 0)


def special_ids(model: Any, tokenizer: Any = None) -> dict[str, int]:
    """Return the ids of the special tokens that there are, under `mask`, `pad`, `first` and `last`."""
    source = model.config if tokenizer is None else tokenizer
    text = getattr(source, "text_config", source)  # models that see images too have a config for text

    def find(*names: str) -> int | None:
        found = (getattr(each, f"{name}_token_id", None) for name in names for each in (source, text))
        return next((int(each) for each in found if isinstance(each, int)), None)

    ids = {"mask": find("mask"), "pad": find("pad"), "first": find("cls", "bos"), "last": find("sep", "eos")}
    # A config may say that rows begin with padding: RoBERTa's default, with the vocabulary of another model.
    unset = None if tokenizer is not None else ids["pad"]
    return {name: value for name, value in ids.items() if value is not None and (name == "pad" or value != unset)}


def _embeddings(model: Any, tokenizer: Any) -> int:
    try:
        rows = embedding_rows(model)
    except ValueError:  # Perceiver's are elsewhere
        rows = int(model.config.vocab_size)
    return rows if tokenizer is None else min(rows, number_of_ids(tokenizer))


def padded(rows: Sequence[torch.Tensor], pad: int, width: int = 0) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of rows that are padded on the right, to `width` or their longest.

    >>> padded([torch.tensor([7, 8]), torch.tensor([9])], pad=0)["attention_mask"].tolist()
    [[1, 1], [1, 0]]
    """
    width = max(width, *(len(row) for row in rows))
    ids = torch.full((len(rows), width), pad, dtype=torch.int64, device=rows[0].device)
    real = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        real[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": real}


@contextmanager
def asked(model: Any) -> Iterator[None]:
    """Within `with`, `model` is in evaluation mode and learns nothing; afterwards it is as it was before.

    Some models change themselves by what they are shown: BigBird replaces its attention after the first short row, and
    batch normalisation counts what it has seen.
    """
    kept = [(vars(module), dict(vars(module))) for module in model.modules()]
    kept += [(held, dict(held)) for attributes, _ in kept for held in (attributes["_modules"], attributes["_buffers"])]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with torch.no_grad(), evaluation_mode(model):
            yield
    finally:
        for found, before in kept:
            found.clear()
            found.update(before)
        for buffer, value in values:
            buffer.detach().copy_(value)
