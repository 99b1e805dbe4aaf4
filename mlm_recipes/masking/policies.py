"""Chooses which tokens are masked, and what replaces them.

Everything here works on one flat row of tokens (a batch's sequences one after the other, without padding), so that
padding, its side and the batch's shape cannot change a mask. Random numbers come from a counter-based generator
(SplitMix64; Steele, Lea and Flood 2014, https://doi.org/10.1145/2714064.2660195): the number for a token is a function
of its sequence's key, its position and a purpose, so no state has to be kept, saved or restored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .random_keys import CHOOSE, RANDOM_TOKEN, REPLACE, Bools, Ints, Keys, draw


def choose_uniform(
    maskable: Bools, keys: Keys, lengths: Ints, mlm_probability: float, at_least_one: bool = False
) -> Bools:
    """Choose each maskable token with probability `mlm_probability`, independently (BERT; Devlin et al. 2019).

    `maskable` has shape `(tokens,)` and is True for every token that is not special. The result has the same shape and
    is True for every chosen token. With `at_least_one`, a sequence without a chosen token gets the one whose random
    number is lowest.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> keys, lengths = sequence_keys(0, 0, [0]), np.array([4])
    >>> choose_uniform(np.array([False, True, True, False]), keys, lengths, mlm_probability=1.0).tolist()
    [False, True, True, False]
    >>> int(choose_uniform(np.array([False, True, True, False]), keys, lengths, 1e-9, at_least_one=True).sum())
    1
    """
    numbers = np.where(maskable, draw(keys, lengths, CHOOSE), 1.0)  # a drawn number is always below 1.0
    chosen = numbers < mlm_probability
    if at_least_one:
        lowest = np.full(len(lengths), 1.0)
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        np.minimum.at(lowest, sequence, numbers)
        chosen |= maskable & (numbers == lowest[sequence])
    return chosen


def special_token_ids(tokenizer: Any) -> Ints:
    """Return the sorted ids that are never masked and never replace a masked token.

    These are the tokens with a role (CLS, SEP, PAD, UNK, MASK) and all others that were added as special, which
    transformers' `all_special_ids` does not include.
    """
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return np.array(sorted(added | set(tokenizer.all_special_ids)), dtype=np.int64)


def replace_chosen(
    input_ids: Ints,
    chosen: Bools,
    keys: Keys,
    lengths: Ints,
    *,
    mask_token_id: int,
    ordinary_token_ids: Ints,
    mask_replace_prob: float = 1.0,
    random_replace_prob: float = 0.0,
) -> Ints:
    """Return a copy of `input_ids`, shape `(tokens,)`, in which the chosen tokens are replaced.

    A chosen token becomes `mask_token_id` with probability `mask_replace_prob`, a token drawn uniformly from
    `ordinary_token_ids` with probability `random_replace_prob`, and is unchanged otherwise.

    >>> from mlm_recipes.masking.random_keys import sequence_keys
    >>> keys, lengths = sequence_keys(0, 0, [0]), np.array([4])
    >>> chosen = np.array([False, True, False, True])
    >>> replace_chosen(np.array([7, 8, 9, 10]), chosen, keys, lengths, mask_token_id=103,
    ...                ordinary_token_ids=np.arange(104, 200)).tolist()
    [7, 103, 9, 103]
    """
    replaced = input_ids.copy()
    if mask_replace_prob == 1.0:  # nothing to draw: the tutorial's rule, and the default
        replaced[chosen] = mask_token_id
        return replaced
    kind = draw(keys, lengths, REPLACE)
    replaced[chosen & (kind < mask_replace_prob)] = mask_token_id
    at_random = chosen & (kind >= mask_replace_prob) & (kind < mask_replace_prob + random_replace_prob)
    index = (draw(keys, lengths, RANDOM_TOKEN) * len(ordinary_token_ids)).astype(np.int64)
    replaced[at_random] = ordinary_token_ids[index[at_random]]
    return replaced
