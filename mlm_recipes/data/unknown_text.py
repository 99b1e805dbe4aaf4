"""Finds the characters of a text that a vocabulary does not have, and why."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..metrics_file import LostCharacters, WhyUnknown

#: A sample of this many paragraphs, spread over each part of a text, and the first characters of each.
_PARAGRAPHS, _CHARACTERS = 100, 2_000

#: The different pieces of text that are looked at, the most frequent ones, and the number of examples.
_PIECES, _EXAMPLES = 50, 3

#: A vocabulary made of word pieces takes a word of more than 100 characters as unknown, whatever it consists of.
_LONG, _PART = 100, 20

#: How a script is called, if not by the first word of its characters' names in Unicode.
_SCRIPTS = {"CJK": "Chinese characters", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def lost_characters(parts: Sequence[Sequence[str]], tokenizer: Any) -> LostCharacters:
    """Return the share of a text's characters that are in no token but the unknown one, and the reason for most.

    White space, marks and control characters are not counted. Each part of the text is sampled, if it is long.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> lost_characters([["to be", "\\u0431\\u044b\\u0442\\u044c"]], tokenizer)["why"]
    'script'
    """
    spread = [texts[:: max(1, math.ceil(len(texts) / _PARAGRAPHS))] for texts in parts]
    chosen = [text[:_CHARACTERS] for texts in spread for text in texts]
    vocabulary = _Vocabulary(tokenizer)
    lost: Counter[str] = Counter()
    for text in chosen:
        lost.update(vocabulary.lost_in(text))
    whole = sum(_counted(text) for text in chosen)
    reasons: Counter[tuple[WhyUnknown, str | None]] = Counter()
    for piece, times in lost.most_common(_PIECES):
        reasons[vocabulary.why(piece)] += times * _counted(piece)
    (why, script), _ = reasons.most_common(1)[0] if reasons else ((None, None), 0)
    return {
        "characters": sum(times * _counted(piece) for piece, times in lost.items()) / max(1, whole),
        "why": why,
        "script": script,
        "examples": [piece if len(piece) <= 20 else f"{piece[:20]}..." for piece, _ in lost.most_common(_EXAMPLES)],
    }


def _counted(text: str) -> int:
    return sum(unicodedata.category(character)[0] in "LNPS" for character in text)


class _Vocabulary:
    """What a tokenizer's vocabulary has; every piece of text is asked once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._asked: dict[str, bool] = {}

    def has(self, text: str) -> bool:
        """Tell whether a text has tokens, and none is the unknown one."""
        if text not in self._asked:
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            self._asked[text] = bool(ids) and self.tokenizer.unk_token_id not in ids
        return self._asked[text]

    def _lacks_all_of(self, word: str) -> bool:
        ids = self.tokenizer(word, add_special_tokens=False, verbose=False)["input_ids"]
        return set(ids) <= {self.tokenizer.unk_token_id}

    def lost_in(self, text: str) -> list[str]:
        """Return the pieces of a text that are in no known token."""
        if not self.tokenizer.is_fast:  # it does not tell where its tokens are
            words = [word for word in text.split() if not self.has(word)]
            parts = [[word] if self._lacks_all_of(word) else [c for c in word if not self.has(c)] for word in words]
            return [part for found in parts for part in found if _counted(part)]
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        left, tokens = [*text], self.tokenizer.convert_ids_to_tokens(found["input_ids"])
        for token, (start, end) in zip(tokens, found["offset_mapping"], strict=True):
            if token != self.tokenizer.unk_token:
                if text[start : start + len(token)].lower() == token.lower():
                    end = max(end, start + len(token))  # the offsets of an overlapping k-mer are its first letter's
                left[start:end] = " " * (end - start)
        return [piece for piece in "".join(left).split() if _counted(piece)]

    def why(self, piece: str) -> tuple[WhyUnknown, str | None]:
        """Return why a piece of text is unknown, and with `script` which one its characters belong to."""
        if len(piece) > _LONG and all(self.has(part) for part in re.findall(f".{{1,{_PART}}}", piece)):
            return "long words", None
        unknown = [character for character in piece if _counted(character) and not self.has(character)]
        plain = "".join(c for c in unicodedata.normalize("NFD", piece) if unicodedata.category(c) != "Mn")
        if plain != piece and self.has(plain):
            return "letters", None
        kinds = Counter(unicodedata.category(character)[0] for character in unknown)
        if kinds["S"] * 2 > len(unknown):
            return "symbols", None
        if kinds["L"] * 2 <= len(unknown):  # all are known one by one, or they are digits or punctuation
            return "other", None
        scripts = Counter(unicodedata.name(character, "?").split()[0] for character in unknown)
        script = scripts.most_common(1)[0][0]
        return ("letters", None) if script == "LATIN" else ("script", _SCRIPTS.get(script, script.capitalize()))
