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
    together: bool = False,
) -> Ints:
    """Return a copy of `input_ids`, shape `(tokens,)`, in which the chosen tokens are replaced.

    A chosen token becomes `mask_token_id` with probability `mask_replace_prob`, a token drawn uniformly from
    `ordinary_token_ids` with probability `random_replace_prob`, and is unchanged otherwise. BERT decides for each
    token, also of a whole word. `together` decides once for chosen neighbours, as SpanBERT does; each of them gets a
    random token of its own.

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
    if together:
        kind = kind[_first_neighbours(chosen, lengths)]
    replaced[chosen & (kind < mask_replace_prob)] = mask_token_id
    at_random = chosen & (kind >= mask_replace_prob) & (kind < mask_replace_prob + random_replace_prob)
    index = (draw(keys, lengths, RANDOM_TOKEN) * len(ordinary_token_ids)).astype(np.int64)
    replaced[at_random] = ordinary_token_ids[index[at_random]]
    return replaced


def _first_neighbours(chosen: Bools, lengths: Ints) -> Ints:
    """Return the position at which the chosen neighbours of each token begin, shape `(tokens,)`; its own if not chosen.

    >>> _first_neighbours(np.array([False, True, True, True, True]), np.array([3, 2])).tolist()
    [0, 1, 1, 3, 3]
    """
    begins = np.ones(len(chosen), dtype=np.bool_)
    begins[1:] = ~(chosen[1:] & chosen[:-1])
    begins[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    return np.maximum.accumulate(np.where(begins, np.arange(len(chosen)), 0))
