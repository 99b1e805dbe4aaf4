"""How much each token of a vocabulary attracts masks: by how much more frequent it is here than in a general text."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .random_keys import Floats, Ints

#: The tokens that the prior of both texts' frequencies counts as.
_PRIOR = 500.0

#: Weights have this many decimals, so that a processor whose logarithm rounds differently finds the same ones.
_DECIMALS = 3


def token_weights(counts: Any, general_counts: Any) -> Floats:
    """Return the weight of each id for the masking policy `informative`, at least 1, shape `(ids,)`.

    `counts` and `general_counts` are how often each id occurs in the training text and in a general text, both of
    shape `(ids,)`. Special tokens are never masked, so leave them out of both: `mlm_recipes.data.all_ids.count_ids`.

    The weight of an id is `1 + max(0, d - s)`, with three decimals. `d` is the log-odds ratio of the id in both texts,
    each with an informative Dirichlet prior, and `s` is its standard error:

        d = log(a / (A - a)) - log(b / (B - b)),  s = sqrt(1 / a + 1 / b)

    where `a` and `b` are the id's counts in the training text and in the general text, each plus 500 times its share
    of both texts together, and `A` and `B` are the sums of `a` and `b` over all ids (Monroe, Colaresi and Quinn 2008,
    "Fightin' Words", https://doi.org/10.1093/pan/mpn018). One standard error is subtracted because a token that occurs
    once is not yet typical of a text. The 1 lets every other token be masked too.

    To mask more of what distinguishes a domain from general text is the idea of Difference-Masking (Wilf et al. 2023,
    arXiv:2305.14577) and of selective masking (Gu et al. 2020, arXiv:2004.09733). They need a model to find it; this
    needs two counts. PMI-Masking (Levine et al. 2021, arXiv:2010.01825) masks n-grams whose tokens predict each other,
    and needs a corpus large enough to count n-grams.

    Raises: ValueError for counts of different shapes, or without any token.

    >>> token_weights([0, 900, 80, 20], [0, 990, 0, 10]).tolist()  # never, as often, only here, twice as often
    [1.0, 1.0, 2.42, 1.153]
    """
    here, there = (np.asarray(given, dtype=np.float64) for given in (counts, general_counts))
    if here.shape != there.shape or here.ndim != 1:
        raise ValueError(
            f"general_counts: received the shape {there.shape} with counts of {here.shape}. Accepted: two arrays with "
            "one number for each id of the vocabulary. Count both with count_ids(rows, len(tokenizer))."
        )
    for name, found in (("counts", here), ("general_counts", there)):
        if not found.sum() > 0:
            raise ValueError(
                f"{name}: received no tokens. Accepted: a text of which the vocabulary has tokens. Choose another text."
            )
    weights = np.ones(len(here))
    seen = here + there > 0
    prior = _PRIOR * (here + there)[seen] / (here + there).sum()
    a, b = here[seen] + prior, there[seen] + prior
    ratio = np.log(a / np.maximum(a.sum() - a, 1e-9)) - np.log(b / np.maximum(b.sum() - b, 1e-9))
    weights[seen] += np.maximum(0.0, ratio - np.sqrt(1.0 / a + 1.0 / b))
    return weights.round(_DECIMALS)


def favoured(weights: Floats, counts: Any, number: int = 10) -> tuple[Ints, Ints]:
    """Return the ids of a text with the highest weights and those with the lowest, at most `number` of each.

    Of ids with equal weights, those that occur more often come first.

    >>> [ids.tolist() for ids in favoured(np.array([1.0, 1.0, 2.2, 1.4]), [5, 90, 80, 20], number=2)]
    [[2, 3], [1, 0]]
    """
    counts = np.asarray(counts)
    here = np.flatnonzero(counts)
    order = here[np.lexsort((-counts[here], -weights[here]))]
    most = order[weights[order] > weights[here].min(initial=np.inf)][:number]
    least = here[np.lexsort((-counts[here], weights[here]))]
    return most, least[~np.isin(least, most)][:number]


def weights_fingerprint(weights: Any) -> str:
    """Return a hash of the weights, 16 hexadecimal digits.

    >>> weights_fingerprint([1.0, 2.5]) == weights_fingerprint(np.array([1.0, 2.5]))
    True
    """
    content = np.ascontiguousarray(weights, dtype="<f8").tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()
