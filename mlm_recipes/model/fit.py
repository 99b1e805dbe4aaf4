"""Checks that a model and a tokenizer fit each other: an embedding for each id, and the same special tokens."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..masking.vocabulary import number_of_ids
from .embeddings import embedding_rows

logger = logging.getLogger(__name__)

#: The special tokens whose ids a config may state.
_ROLES = ("pad", "mask", "cls", "sep", "unk", "bos", "eos")

#: A vocabulary that leaves a larger share of the embeddings unused is probably another model's. Rows that only round
#: the number up are far fewer.
_UNUSED = 0.1


def require_fit(
    model: Any, tokenizer: PreTrainedTokenizerBase, name: str | Path | None = None, elsewhere: str | Path | None = None
) -> None:
    """Raise ValueError if a tokenizer has an id that the model has no embedding or no logit for.

    Args:
        model: with a masked-language-modelling head, and usable embeddings.
        tokenizer: one of transformers'.
        name: the model's, for messages; by default its class's.
        elsewhere: the tokenizer's name, if it is not the model's own. Special tokens whose ids differ from those that
            the model's config states are then refused too; for the model's own they are only logged.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> from mlm_recipes import train_tokenizer
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> require_fit(BertForMaskedLM(BertConfig(vocab_size=120, **size)), train_tokenizer(["to be"] * 2))
    """
    ids, tokens = number_of_ids(tokenizer), len(tokenizer.get_vocab())
    whose = f"the tokenizer {str(elsewhere)!r}" if elsewhere is not None else "its tokenizer"
    named = repr(str(name)) if name is not None else type(model).__name__
    rows = embedding_rows(model)
    try:
        logits = int(getattr(model.get_output_embeddings(), "out_features", rows))
    except AttributeError:  # a head of one's own
        logits = rows
    for what, there in (("token embeddings", rows), ("logits for each position", logits)):
        if there < ids:
            holes = f" ({tokens} tokens, and {ids - tokens} ids without one)" if ids > tokens else ""
            raise ValueError(
                f"model: {named} has {there} {what}, and {whose} has ids up to {ids - 1}{holes}. Accepted: {ids} or "
                "more, one for each id. Use the tokenizer that was saved with the model, or enlarge the model: "
                f"model.resize_token_embeddings({ids})."
            )
    differing = _differing(model, tokenizer, rows)
    if differing and elsewhere is not None:
        raise ValueError(
            f"tokenizer: {str(elsewhere)!r} does not fit the model {named}: {differing}. Accepted: a tokenizer with "
            "the special tokens that the model was trained with. Name that one, or correct the ids in the model's "
            "config.json if they are wrong."
        )
    if differing:
        _warn_once(f"The model and the tokenizer differ: {differing}. The tokenizer's ids are used.")
    if rows - ids > _UNUSED * rows:
        _warn_once(
            f"The model has {rows:,} token embeddings, and the tokenizer only {ids:,} ids. It may be another model's: "
            "make sure that the model was trained with it."
        )


@cache  # several trainers of a run are given the same two
def _warn_once(message: str) -> None:
    logger.warning(message)


def _differing(model: Any, tokenizer: PreTrainedTokenizerBase, rows: int) -> str:
    """Return which special tokens have one id in the model's configs and another in the tokenizer, as a list of words.

    An id that the model has no embedding for is only its config class's default.
    """
    found: dict[str, str] = {}
    for config in (model.config, getattr(model, "generation_config", None)):
        for role in _ROLES:
            stated, there = (getattr(side, f"{role}_token_id", None) for side in (config, tokenizer))
            if isinstance(stated, int) and 0 <= stated < rows and there is not None and stated != there:
                found[role] = f"the {role} token is {stated} in its config and {there} in the tokenizer"
    return ", ".join(found.values())
