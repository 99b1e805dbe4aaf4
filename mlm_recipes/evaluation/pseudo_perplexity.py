"""Masks tokens one at a time for pseudo-perplexity, with all other tokens visible (Salazar et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.columns import list_lengths
from ..masking.random_keys import CHOOSE, EVALUATION_EPOCH, Bools, Ints, draw, sequence_keys

#: The budget always allows at least this many tokens of the longest row.
_FEWEST = 32


@dataclass(frozen=True)
class MaskedAlone:
    """Copies of a text's rows, each with one token to be masked.

    Attributes:
        rows: mappings whose `special_tokens_mask` excludes all tokens except that one; a collator that masks at least
            one token of a row, such as the frozen one, masks it.
        of_row: the index of each copy's row in the text.
        share: the probability with which each of the text's tokens was chosen; 1 if all were.
    """

    rows: list[dict[str, Any]]
    of_row: Ints
    share: float


def mask_alone(rows: Any, special_ids: Ints, seed: int, budget: int) -> MaskedAlone:
    """Choose tokens of `rows` to be masked one at a time, so that about `budget` positions are computed.

    Each token is chosen with the same probability, by `seed` and the row's example_id, independently of other rows, so
    their mean is an unbiased estimate for the whole text. If the text costs less than the budget, all tokens are
    chosen. In a row of n tokens, each chosen token costs n positions. Pseudo-perplexity is the exponential of their
    mean loss (https://aclanthology.org/2020.acl-main.240, equation 4).

    Args:
        rows: a data set with `input_ids`, `special_tokens_mask` and `example_id`.
        special_ids: tokens that are never masked.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict(
    ...     {"input_ids": [[101, 7, 8, 102]], "special_tokens_mask": [[1, 0, 0, 1]], "example_id": [0]}
    ... )
    >>> alone = mask_alone(rows, np.array([101, 102]), seed=0, budget=100)
    >>> [row["special_tokens_mask"].tolist() for row in alone.rows], alone.share
    ([[1, 0, 1, 1], [1, 1, 0, 1]], 1.0)
    """
    lengths = list_lengths(rows, "input_ids")
    allowed = [_maskable(row, special_ids) for row in rows]
    costs = sum(int(each.sum()) * int(length) for each, length in zip(allowed, lengths, strict=True))
    budget = max(budget, _FEWEST * int(lengths.max(initial=0)))
    share = min(1.0, budget / max(1, costs))
    keys = sequence_keys(seed, EVALUATION_EPOCH - 1, rows["example_id"][:])
    variants, of_row = [], []
    for index, (row, maskable) in enumerate(zip(rows, allowed, strict=True)):
        numbers = draw(keys[index : index + 1], lengths[index : index + 1], CHOOSE)  # (tokens,), each below 1
        for position in np.flatnonzero(maskable & (numbers < share)):
            special = np.ones(len(maskable), dtype=np.int64)
            special[position] = 0
            variants.append(
                {"input_ids": row["input_ids"], "special_tokens_mask": special, "example_id": row["example_id"]}
            )
            of_row.append(index)
    return MaskedAlone(variants, np.array(of_row, dtype=np.int64), share)


def _maskable(row: Any, special_ids: Ints) -> Bools:
    return ~np.isin(row["input_ids"], special_ids) & ~np.asarray(row["special_tokens_mask"], dtype=np.bool_)
