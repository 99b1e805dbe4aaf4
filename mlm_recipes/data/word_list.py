"""Reads and writes a list of words: one per line, which a person can edit."""

from __future__ import annotations

from collections.abc import Sequence

from .line_file import read_lines


def read_words(given: str | Sequence[str]) -> list[str]:
    """Return the words of a list; an entry that ends in .txt is a file of words, and each word is returned once.

    In a file, `#` begins a comment, at the beginning of a line or after a space.

    Raises: FileNotFoundError or ValueError for a file that is missing, is not UTF-8 or holds no words; ValueError for
    an entry with a space in it.

    >>> read_words(["oikeiosis", "logos", "logos"])
    ['oikeiosis', 'logos']
    """
    found: list[str] = []
    for entry in [given] if isinstance(given, str) else map(str, given):
        found += _in_file(entry) if entry.endswith(".txt") else [entry]
    spaced = next((word for word in found if len(word.split()) != 1), None)
    if spaced is not None:
        raise ValueError(
            f"add_tokens: received {spaced!r}. Accepted: single words, without spaces. Remove it, or write one word "
            "per line."
        )
    return [*dict.fromkeys(found)]


def _in_file(name: str) -> list[str]:
    advice = "`mlm-recipes vocab CORPUS --model MODEL --add 500` writes one."
    lines = read_lines(name, "add_tokens", "a text file with one word per line", advice)
    words = [f" {line}".split(" #")[0].strip() for line in lines]
    if not any(words):
        raise ValueError(
            f"add_tokens: {name!r} holds no words. Accepted: one word per line. Write some, or leave --add_tokens out."
        )
    return [word for word in words if word]
