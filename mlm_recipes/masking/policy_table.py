"""The masking policies by name; a new one is a file in `policies/` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .flat_tokens import FlatTokens
from .policies import exact_count, informative, ngram, span, token, whole_word
from .random_keys import Bools, Floats


class Policy(NamedTuple):
    """A way to choose tokens, what it needs to know of them besides their ids, and what becomes of them.

    Attributes:
        choose: returns which tokens are chosen, from the batch, the share of each sequence, and whether at least one
            token of each must be chosen.
        says: what it masks, as the option's help puts it.
        words, weights, ngram: whether it uses these of `FlatTokens`.
        together: whether neighbours that are chosen are all replaced by the mask token, all by random tokens, or all
            kept; otherwise each token is decided on by itself.
    """

    choose: Callable[[FlatTokens, Floats, bool], Bools]
    says: str
    words: bool = False
    weights: bool = False
    ngram: bool = False
    together: bool = False


POLICIES = {
    "token": Policy(token.choose, "each by itself, as in BERT"),
    "whole_word": Policy(whole_word.choose, "all pieces of a word, or none", words=True),
    "span": Policy(span.choose, "1 to 10 words in a row, as in SpanBERT", words=True, together=True),
    "ngram": Policy(ngram.choose, "a fixed number in a row, for text without words", ngram=True, together=True),
    "exact_count": Policy(exact_count.choose, "the same number in each row of a length"),
    "informative": Policy(
        informative.choose, "more often those that are more frequent than in general_corpus", weights=True
    ),
}
