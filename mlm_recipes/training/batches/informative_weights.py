"""The weights of the masking policy `informative` for a run: its training text is compared with `general_corpus`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from ...data.all_ids import count_ids
from ...data.corpus import load_paragraphs
from ...data.corpus_name import Reading, resolve
from ...data.id_limits import IdLimits
from ...data.prepared_rows import PreparedRows
from ...data.rows import tokenize
from ...masking.policy_table import POLICIES
from ...masking.random_keys import Floats, Ints
from ...masking.token_weights import favoured, token_weights
from ...masking.vocabulary import special_token_ids
from ...sources.credentials import without_credentials
from ...sources.escaping import one_line
from ..config import MLMConfig
from ..distributed.processes import from_main

logger = logging.getLogger(__name__)


def needs_weights(config: MLMConfig) -> bool:
    """Tell whether a config's masking policy needs weights.

    >>> needs_weights(MLMConfig(use_cpu=True)), needs_weights(MLMConfig(use_cpu=True, masking_policy="informative"))
    (False, True)
    """
    return POLICIES[config.masking_policy].weights


def informative_weights(rows: Callable[[], Any], tokenizer: Any, config: MLMConfig, limits: IdLimits) -> Floats:
    """Return the weight of each id of the model, shape `(limits.ids,)`, and log which tokens they favour.

    Only the main process counts, and sends the others what it found; all processes must call this. The general text is
    read as the config says, and tokenized by the same tokenizer.

    Args:
        rows: returns the rows of token ids of the training text, or a sample of them.
        tokenizer: one of transformers'.
        config: names the general text.
        limits: which rows the model accepts.

    Raises: ValueError for `general_corpus` none, one that cannot be read, and a text without tokens of the vocabulary.

    >>> from mlm_recipes import load_corpus, train_tokenizer
    >>> text = load_corpus("meditations")["train"]
    >>> tokenizer = train_tokenizer(text["text"], vocab_size=2000)
    >>> limits = IdLimits("train_dataset", ids=len(tokenizer), positions=512)
    >>> weights = informative_weights(lambda: tokenize(text, tokenizer), tokenizer, MLMConfig(use_cpu=True), limits)
    >>> weights[tokenizer.convert_tokens_to_ids(["mind", "the"])].tolist()
    [2.362, 1.0]
    """
    if config.general_corpus.lower() == "none":
        raise ValueError(
            f"general_corpus: received none with masking_policy {config.masking_policy!r}, which masks what is more "
            "frequent in the training text than there. Accepted: a text in ordinary language. Leave it out for "
            "general-english, or choose --masking_policy token."
        )
    return from_main(lambda: _counted(rows(), tokenizer, config, limits))


def _counted(rows: Any, tokenizer: Any, config: MLMConfig, limits: IdLimits) -> Floats:
    text = load_paragraphs(resolve(config.general_corpus, Reading(**config.reading())))
    found = rows.counts(limits.ids) if isinstance(rows, PreparedRows) else count_ids(rows, limits.ids, limits)
    counts = _without_special(found, tokenizer)
    general = _without_special(count_ids(tokenize(text, tokenizer), limits.ids), tokenizer)
    name = without_credentials(config.general_corpus)
    if not general.sum():
        raise ValueError(
            f"general_corpus: none of the words of {name!r} is in the vocabulary, so the training text cannot be "
            f"compared with it, as masking_policy {config.masking_policy!r} does. Accepted: a text in the same "
            "language. Name one: --general_corpus FILE."
        )
    weights = token_weights(counts, general)
    if logger.isEnabledFor(logging.WARNING):
        _say(_favoured(weights, counts, int(general.sum()), name, tokenizer))
    return weights


def _without_special(counts: Ints, tokenizer: Any) -> Ints:
    special = special_token_ids(tokenizer)
    counts[special[special < len(counts)]] = 0
    return counts


def _favoured(weights: Floats, counts: Ints, general_tokens: int, name: str, tokenizer: Any) -> str:
    """Return a sentence that says which tokens the weights favour, and what was compared."""

    def listed(ids: Ints) -> str:
        decoded = [tokenizer.decode([index]) for index in ids.tolist()]
        return " ".join(one_line(text) or repr(text) for text in decoded)

    most, least = favoured(weights, counts)
    compared = (
        f"masking_policy informative compares {int(counts.sum()):,} tokens of the training text with "
        f"{general_tokens:,} of {name}."
    )
    if not len(most):
        return f"{compared} None is clearly more frequent here, so all are masked equally often."
    return (
        f"{compared} Masked most often, up to {weights[most[0]]:.1f} times as often as the least: [{listed(most)}]. "
        f"Masked least often: [{listed(least)}]."
    )


@cache  # once for each text, however many trainers a process makes for it
def _say(sentence: str) -> None:
    logger.warning(sentence)
