"""Caches token ids by word, so that each distinct word is tokenized once."""

from __future__ import annotations

import itertools
import json
import re
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..sources.escaping import one_line

Tokens = npt.NDArray[np.int32]

#: Upper bound for the characters of all words in the cache, plus 16 per word: some tens of megabytes. A full cache is
#: emptied; common words are soon cached again.
_MOST = 5_000_000

#: Characters of text that are tokenized together.
_CHARACTERS = 2_000_000


class TokenIds:
    """Return the ids of texts, without special tokens: those that the tokenizer returns, looked up word by word.

    A text has far fewer distinct words than words, and looking one up takes a fraction of the time of tokenizing it.
    If a space always ends a token (BERT's WordPiece, the byte-level BPE of RoBERTa and ModernBERT), the ids of a text
    are the ids of its words, joined. Any other tokenizer gets whole texts, and `why_not` contains the reason.

    Args:
        tokenizer: one of transformers'.
        by_word: look words up, if the tokenizer allows it; False to tokenize whole texts.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> ids = TokenIds(tokenizer)
    >>> ids(["To be"])[0].tolist() == tokenizer("To be", add_special_tokens=False)["input_ids"], ids.why_not
    (True, None)
    """

    def __init__(self, tokenizer: Any, by_word: bool = True) -> None:
        self.tokenizer = tokenizer
        self.why_not = why_not_by_word(tokenizer) if by_word else "not requested"
        self._first: dict[str, bytes] = {}
        # Byte-level tokens contain the space before a word, so a word at the beginning of a text has different ids.
        self._space = " " if self.why_not is None and _kind(tokenizer) == "ByteLevel" else ""
        self._later: dict[str, bytes] = {} if self._space else self._first
        self._size = 0
        added = tokenizer.added_tokens_decoder.values() if self.why_not is None else ()
        # A single word looks at the characters next to it only, and a space is none of a word.
        reaching = [t.content for t in added if t.lstrip or t.rstrip or " " in t.content]
        # With several spaces, or a token that includes the space next to it, the whole text is tokenized.
        self._odd = re.compile("|".join(map(re.escape, ["  ", *reaching])))

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text, int32.

        Raises: ValueError for a text that is not in the vocabulary of a tokenizer without an unknown token.
        """
        found: list[Tokens] = []
        first = characters = 0
        for index, text in enumerate(texts, start=1):
            characters += len(text)
            if characters >= _CHARACTERS or index == len(texts):
                found += self._known(texts[first:index])
                first, characters = index, 0
        return found

    def _known(self, texts: Sequence[str]) -> list[Tokens]:
        try:
            return self._ids(texts)
        except Exception as error:
            if type(error) is not Exception:  # tokenizers has no type of its own for this
                raise
            if len(texts) > 1:  # name the one that is the cause
                return [self._known([text])[0] for text in texts]
            raise ValueError(
                f"tokenizer: {one_line(texts[0][:60])!r} is not in its vocabulary, which has no token for unknown text "
                f"({one_line(str(error))}). Accepted: text that it has tokens for, or a tokenizer with an unknown "
                "token. Leave that paragraph out, set the tokenizer's unk_token to one of its tokens, or learn a new "
                "vocabulary: --from_scratch true."
            ) from error

    def _ids(self, texts: Sequence[str]) -> list[Tokens]:
        if self.why_not is not None:
            return self._plain(texts)
        if self._size > _MOST:
            self._first.clear()
            self._later.clear()
            self._size = 0
        words = [text.split(" ") for text in texts]
        self._learn(self._first, {of_text[0] for of_text in words}, "")
        self._learn(self._later, set(itertools.chain.from_iterable(of_text[1:] for of_text in words)), self._space)
        look_up = self._later.__getitem__
        joined = (self._first[of_text[0]] + b"".join(map(look_up, of_text[1:])) for of_text in words)
        found = [np.frombuffer(ids, dtype=np.int32) for ids in joined]
        odd = [index for index, text in enumerate(texts) if self._odd.search(text)]
        for index, ids in zip(odd, self._plain([texts[index] for index in odd]), strict=True):
            found[index] = ids
        return found

    def _learn(self, known: dict[str, bytes], words: set[str], before: str) -> None:
        new = [word for word in words if word not in known]
        backend = self.tokenizer.backend_tokenizer  # transformers takes ten times as long per word
        backend.no_truncation()
        backend.no_padding()
        found = backend.encode_batch_fast([before + word for word in new], add_special_tokens=False)
        self._size += sum(map(len, new)) + 16 * len(new)
        known.update((word, array("i", encoding.ids).tobytes()) for word, encoding in zip(new, found, strict=True))

    def _plain(self, texts: Sequence[str]) -> list[Tokens]:
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [np.array(ids, dtype=np.int32) for ids in found["input_ids"]]


def why_not_by_word(tokenizer: Any) -> str | None:
    """Return why the ids of a text may differ from those of its words, or None if they do not."""
    kind = _kind(tokenizer)
    return None if kind in ("BertPreTokenizer", "ByteLevel") else f"its words are found by {kind}"


def _kind(tokenizer: Any) -> str:
    """Return the name of the step by which the tokenizer finds words, or of what prevents using it."""
    if not tokenizer.is_fast:
        return "Python code"
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    found, normalizer = state["pre_tokenizer"] or {"type": "nothing"}, state["normalizer"] or {"type": "nothing"}
    if found["type"] == "BertPreTokenizer":
        return "BertPreTokenizer" if normalizer["type"] in ("BertNormalizer", "nothing") else normalizer["type"]
    if found["type"] == "ByteLevel" and found["use_regex"] and not found["add_prefix_space"]:
        return "ByteLevel" if normalizer["type"] in ("nothing", "NFC") else normalizer["type"]
    return str(found["type"])
