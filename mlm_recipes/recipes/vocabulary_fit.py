"""How much of a text a vocabulary knows: counted, explained, and refused if it knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.unknown_text import lost_characters
from ..masking.random_keys import Ints
from ..masking.vocabulary import special_token_ids
from ..metrics_file import LostCharacters, UnknownText
from ..report.unknown_words import remedy


def known_tokens(counts: Ints, tokenizer: Any) -> int:
    """Return how many tokens can be masked, given the count of each token, shape `(vocab_size,)`."""
    return int(counts.sum() - counts[special_token_ids(tokenizer)].sum())


def count_unknown(parts: Sequence[Sequence[str]], counts: Ints, tokenizer: Any) -> UnknownText:
    """Return metrics.json's `corpus.unknown` for a text in several parts; `counts` are those of all its tokens."""
    unknown = 0 if tokenizer.unk_token_id is None else int(counts[tokenizer.unk_token_id])
    tokens = known_tokens(counts, tokenizer) + unknown
    return {"tokens": tokens, "unknown_tokens": unknown, **lost_characters(parts, tokenizer)}


def require_known(part: str, known: int, why: LostCharacters, model: str) -> None:
    """Raise ValueError if none of a part's tokens can be masked."""
    if not known:
        raise ValueError(no_known_token(part, why, model))


def no_known_token(part: str, why: LostCharacters, model: str) -> str:
    """Return the refusal of a text that has no token that can be masked."""
    examples = f", such as {', '.join(why['examples'])}" if why["examples"] else ""
    return (
        f"corpus: nothing of the {part} text is in the vocabulary of {model!r}{examples}. So no token can be masked, "
        f"and nothing can be learned or measured. Accepted: text whose words the vocabulary has. {remedy(why)}"
    )
