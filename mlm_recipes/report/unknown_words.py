"""Says how much of a text is unknown to a model's vocabulary, and what helps; imports no torch."""

from __future__ import annotations

from ..metrics_file import LostCharacters, UnknownText

#: From this share on, unknown text is worth a sentence; from the second on, the result is not about the text.
NOTABLE, MUCH = 0.01, 0.2

_FROM_SCRATCH = "start from random weights and a vocabulary that is learned from this text (--from_scratch true)"


def share(found: UnknownText) -> float:
    """Return the larger share that is unknown, of the tokens or of the characters: one token may be a long word.

    >>> few = {"tokens": 100, "unknown_tokens": 5, "why": None, "script": None, "examples": []}
    >>> share({**few, "characters": 0.4})
    0.4
    """
    return max(found["unknown_tokens"] / max(1, found["tokens"]), found["characters"])


def unknown_text(found: UnknownText | None) -> str:
    """Return sentences on what is unknown, and what to do about it; nothing if hardly anything is."""
    if found is None or share(found) <= NOTABLE:
        return ""
    return f"{_how_much(found)} They are never masked, and the model learns nothing about them. {remedy(found)}"


def qualification(found: UnknownText | None) -> str:
    """Return what has to be said before any figure: that they do not cover much of the text; nothing if they do."""
    if found is None or share(found) < MUCH:
        return ""
    most = "Most" if share(found) > 0.5 else "Much"
    return f"{most} of this text is unknown to the model: the figures are about the rest only. "


def _how_much(found: UnknownText) -> str:
    examples = f", such as {', '.join(found['examples'])}," if found["examples"] else ""
    if not found["unknown_tokens"]:  # a tokenizer without an unknown token leaves out what it does not know
        return f"{found['characters']:.1%} of the characters{examples} are not in the vocabulary, and are left out."
    of_all = f"{found['unknown_tokens'] / found['tokens']:.1%} of the tokens"
    return f"{of_all}, with {found['characters']:.1%} of the characters{examples} are unknown to the vocabulary."


def remedy(found: LostCharacters) -> str:
    """Return what to do about the text that is unknown, which depends on why most of it is."""
    if found["why"] == "script":
        return f"Most of it is {found['script']}: choose a model of that language, or {_FROM_SCRATCH}."
    if found["why"] == "long words":
        return (
            "Most of it is words of more than 100 characters, which this vocabulary does not split, whatever they "
            "consist of. Choose a model or a tokenizer (--tokenizer) that splits words of any length, such as a "
            "byte-level one, or put spaces into them: DNA, for example, is usually written in groups of six letters."
        )
    if found["why"] == "letters":
        return (
            "Most of it is words with letters that the vocabulary lacks, such as accented ones. Choose a model of the "
            f"text's language, or {_FROM_SCRATCH}."
        )
    if found["why"] == "symbols":
        return (
            "Most of it is emoji or other symbols. Choose a model whose vocabulary has them (a byte-level one, such as "
            "RoBERTa's, has all), or replace them with words."
        )
    return f"Choose a model whose vocabulary contains them, or {_FROM_SCRATCH}."
