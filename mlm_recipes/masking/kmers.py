"""How many neighbours hide a letter in a vocabulary of k-mers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .vocabulary import special_token_ids

#: A run of tokens that have no common length.
DEFAULT = 3

#: The share of the vocabulary that must be of one length; the rest are, for example, single letters.
_MOST = 0.95


def ngram_of(tokenizer: Any) -> int:
    """Return k if the tokens of a vocabulary have k letters each, at least two, and otherwise 3.

    >>> from transformers import BertTokenizer
    >>> kmers = ["AC", "CG", "GT", "TA"]
    >>> names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> ngram_of(BertTokenizer(vocab={token: i for i, token in enumerate(names + kmers)}))
    2
    """
    special = set(special_token_ids(tokenizer).tolist())
    lengths = Counter(len(token) for token, index in tokenizer.get_vocab().items() if index not in special)
    if not lengths:
        return DEFAULT
    [(k, tokens)] = lengths.most_common(1)
    return k if k > 1 and tokens >= _MOST * lengths.total() else DEFAULT
