"""What replaces the tokens that were chosen, whichever policy chose them."""

from __future__ import annotations

import numpy as np

from .random_keys import RANDOM_TOKEN, REPLACE, Bools, Ints, Keys, draw


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
